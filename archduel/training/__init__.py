"""Training of networks on labelled images: pixels, augmentation, schedule, loop, metrics (plain torch)."""

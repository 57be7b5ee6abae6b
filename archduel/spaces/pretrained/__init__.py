"""Published networks that already know images: what they are made of, and the networks that keep a part of them."""

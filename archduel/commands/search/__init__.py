"""`archduel search`: from a folder of images to a trained, exported network and a report."""

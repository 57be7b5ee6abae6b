"""`archduel data ...`: what is in a set of images."""

"""`archduel ls`, `status`, `watch`, `doctor`: what there is, how far it is, and what this machine can do."""

"""`archduel space ...` and `arch ...`: look at spaces and architectures."""

"""`archduel train`: one network, trained to the end."""

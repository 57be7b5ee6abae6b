"""`archduel backbones ...`: published networks whose weights a search may start from."""

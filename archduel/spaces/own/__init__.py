"""Search spaces from a person's own ``nn.Module``: choices in an ordinary constructor, replayed."""

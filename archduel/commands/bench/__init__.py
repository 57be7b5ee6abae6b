"""`archduel bench ...`: comparisons on tables, of shared weights and of fused training."""

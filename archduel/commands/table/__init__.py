"""`archduel table ...`: tabular benchmarks."""

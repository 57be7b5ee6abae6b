"""`archduel export`, `predict`, `eval`, `compare`, `latency`: what a trained network is used for."""

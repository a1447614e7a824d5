"""What computes a model's answers, one module for each format. See `runtime` for what they have in common."""

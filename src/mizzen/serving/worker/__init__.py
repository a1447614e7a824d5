"""One process, one model version."""

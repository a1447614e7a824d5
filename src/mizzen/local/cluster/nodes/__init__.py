"""What happens to Pods when their node does not answer, or is gone."""

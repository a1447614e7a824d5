"""What Kubernetes knows of each of its own types, beyond their schemas: defaults, checks, and what may change."""

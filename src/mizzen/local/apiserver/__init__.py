"""The Kubernetes API answered from SQLite."""

"""What runs inside a training Pod."""

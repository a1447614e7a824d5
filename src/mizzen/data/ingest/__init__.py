"""What runs inside a loading Pod."""

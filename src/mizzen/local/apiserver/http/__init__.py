"""The wire: requests read, representations negotiated, answers and streams sent."""

"""Mizzen: the whole machine-learning platform as one Python package."""

"""Accepts, identifies, queues and answers requests."""

"""Versioned tables, objects, ingestion with expectations."""

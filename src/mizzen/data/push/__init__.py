"""Rows that programs send over HTTP: kept before they are acknowledged, committed in batches."""

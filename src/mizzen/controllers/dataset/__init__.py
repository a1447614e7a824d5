"""Dataset: rows loaded by a Job, checked, and kept as versions of one table."""

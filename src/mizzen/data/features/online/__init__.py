"""The online store: one packed record an entity and view, read in microseconds, written in increments."""

"""Features: one aggregate kernel for backfill, increments and online reads; point-in-time joins; the online store."""

"""The aggregates, one file a family; `registry.aggregate_for` finds one by name."""

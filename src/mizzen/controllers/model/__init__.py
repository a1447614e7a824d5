"""Model: its versions judged by its gates, and where its aliases point."""

"""Arguments in, words out; no decisions."""

"""The verbs: one folder a kind; load -> decide -> apply, status written once."""

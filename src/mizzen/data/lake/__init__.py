"""Tables with versions, and objects by digest."""

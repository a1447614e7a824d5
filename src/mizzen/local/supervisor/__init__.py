"""Composition root of one machine: the home, `up` and `down`, and the process tree between them."""

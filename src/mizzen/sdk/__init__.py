"""The Python face: typed client, deploy."""

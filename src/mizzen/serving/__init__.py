"""The request path: gateway and worker."""

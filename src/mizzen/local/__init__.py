"""What makes one machine a cluster: API server, cluster controllers, node, and the supervisor that composes them."""

"""What keeps Pods there: ReplicaSets, Deployments and Jobs."""

"""What keeps Pods there: ReplicaSets and Deployments."""

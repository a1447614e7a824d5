"""What a cluster's controller manager and scheduler do: bind Pods, Deployments, Jobs, EndpointSlices, garbage."""

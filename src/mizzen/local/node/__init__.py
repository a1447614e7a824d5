"""A kubelet to any API server that runs Pods as process groups."""

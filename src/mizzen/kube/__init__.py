"""The Kubernetes API as a client sees it: access, informers, keyed work queue, reconcile runtime, events."""

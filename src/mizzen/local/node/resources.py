"""The kinds of Kubernetes' that the node reads and writes, as plain JSON: what this node does not know is kept."""

from mizzen.kube.resources import ResourceInfo, untyped

POD = untyped(ResourceInfo("", "v1", "Pod", "pods", namespaced=True))
NODE = untyped(ResourceInfo("", "v1", "Node", "nodes", namespaced=False))
LEASE = untyped(ResourceInfo("coordination.k8s.io", "v1", "Lease", "leases", namespaced=True))

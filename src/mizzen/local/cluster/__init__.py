"""What a cluster's controller manager does, and its scheduler: bind Pods, Deployments, Jobs, EndpointSlices, garbage.

Each is a controller of `mizzen.kube`, through the public API alone; each decides by pure functions in a file beside it.
What an API server here does by itself is not done again: the furnishing of namespaces (ServiceAccount `default`,
ConfigMap `kube-root-ca.crt`), aggregated ClusterRoles, the end of old Events, the conditions of
CustomResourceDefinitions.
"""

from mizzen.local.cluster.composition import cluster_controllers, runtime_of
from mizzen.local.cluster.context import ClusterContext

__all__ = ["ClusterContext", "cluster_controllers", "runtime_of"]

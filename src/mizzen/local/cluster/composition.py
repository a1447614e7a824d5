"""All of the cluster's controllers together: what kube-controller-manager and kube-scheduler are on a cluster."""

from mizzen.kube.client import Client
from mizzen.kube.clock import Clock, utc_now
from mizzen.kube.events import Recorder
from mizzen.kube.informer import Informers
from mizzen.kube.metrics import Registry
from mizzen.kube.runtime import Controller, Runtime
from mizzen.local.cluster.context import ClusterContext
from mizzen.local.cluster.endpoints import EndpointSliceController
from mizzen.local.cluster.garbage.controller import GarbageCollector
from mizzen.local.cluster.jobs.controller import JobController
from mizzen.local.cluster.namespaces import NamespaceController
from mizzen.local.cluster.nodes.lifecycle import NodeLifecycleController
from mizzen.local.cluster.nodes.pod_collection import PodCollector
from mizzen.local.cluster.scheduling.controller import Scheduler
from mizzen.local.cluster.workloads.deployment import DeploymentController
from mizzen.local.cluster.workloads.replicaset import ReplicaSetController

COMPONENT = "mizzen-cluster"


def cluster_controllers(cluster: ClusterContext) -> list[Controller]:
    """Every controller, sharing the context's informers."""
    return [
        Scheduler(cluster),
        ReplicaSetController(cluster),
        DeploymentController(cluster),
        JobController(cluster),
        EndpointSliceController(cluster),
        GarbageCollector(cluster),
        NamespaceController(cluster),
        NodeLifecycleController(cluster),
        PodCollector(cluster),
    ]


def runtime_of(client: Client, *, metrics: Registry | None = None, clock: Clock = utc_now) -> Runtime:
    """The runtime of all of them. There must be one only at a control plane that has no controller manager."""
    recorder = Recorder(client, COMPONENT, clock=clock)
    cluster = ClusterContext(client, Informers(client), recorder, clock)
    return Runtime(cluster.informers, cluster_controllers(cluster), recorder=recorder, metrics=metrics)

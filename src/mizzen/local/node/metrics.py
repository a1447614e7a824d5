"""The node's numbers for Prometheus."""

from mizzen.kube.metrics import Registry


class NodeMetrics:
    """Counters and histograms of one node."""

    def __init__(self, registry: Registry | None = None) -> None:
        self.registry = registry or Registry()
        self.started = self.registry.counter(
            "mizzen_node_containers_started_total", "Attempts at running a container that were begun."
        )
        self.exited = self.registry.counter(
            "mizzen_node_containers_exited_total", "Containers that ended, by reason.", ["reason"]
        )
        self.start_s = self.registry.histogram(
            "mizzen_node_container_start_seconds", "From the decision to start a container until its command runs."
        )
        self.probes = self.registry.counter(
            "mizzen_node_probes_total", "Probes tried, by kind and result.", ["kind", "result"]
        )
        self.status_writes = self.registry.counter(
            "mizzen_node_status_writes_total", "Writes of a Pod's status, by result.", ["result"]
        )
        self.adopted = self.registry.counter(
            "mizzen_node_containers_adopted_total",
            "Running containers that were taken back after a restart of the node.",
        )
        self.worker_failures = self.registry.counter(
            "mizzen_node_worker_failures_total", "Pod workers that failed and were started anew."
        )

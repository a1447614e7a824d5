"""What the Pods of one node share: the way to the API server, the machine's facts, and what was handed out already."""

import os
import random
import re
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mizzen.kube.client import Client
from mizzen.kube.events import Recorder
from mizzen.local.node.environment import NodeFacts
from mizzen.local.node.limits import ControlGroups
from mizzen.local.node.machine import Enforcement, Machine
from mizzen.local.node.metrics import NodeMetrics
from mizzen.local.node.moments import Clock
from mizzen.local.node.prefork import Prefork
from mizzen.local.node.sources import SourceCache


def host_name() -> str:
    """The machine's name as a Node may be called."""
    name = re.sub(r"[^a-z0-9.-]+", "-", socket.gethostname().lower()).strip("-.")
    return name or "localhost"


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """How one node is run."""

    name: str = field(default_factory=host_name)
    """Of the Node object; by default the machine's."""
    address: str = "127.0.0.1"
    """Where this machine is reached: of the kubelet server and of every Pod. Loopback keeps others out; EndpointSlices
    of a real cluster do not take loopback addresses."""
    port: int = 0
    """Of the kubelet server; 0: any free one."""
    labels: tuple[tuple[str, str], ...] = ()
    """More labels of the Node."""
    taints: tuple[str, ...] = ()
    """`key=value:Effect`; a node among others may want to be asked for."""
    pods_max: int = 110
    log_bytes_max: int = 10 * 2**20
    """Of one log file of a container."""
    log_files_max: int = 5
    processes_max: int | None = 4096
    """Of one container, where control groups can hold it; `None`: as many as there is room for."""
    preforked: tuple[str, ...] = ()
    """Modules whose containers (`python -m MODULE`) are forked from a process that has imported them: `prefork`."""
    pythonpath: bool = True
    """Pass the node's own PYTHONPATH on, so that a development checkout works in Pods."""


@dataclass(slots=True)
class Host:
    """Shared by the Pods' workers; made by `Node`."""

    home: Path
    options: NodeOptions
    machine: Machine
    enforcement: Enforcement
    client: Client
    recorder: Recorder
    sources: SourceCache
    metrics: NodeMetrics
    clock: Clock
    rng: random.Random
    ports: dict[str, frozenset[int]] = field(default_factory=dict)
    """The ports of each Pod, by uid."""
    prefork: Prefork = field(init=False)

    def __post_init__(self) -> None:
        self.prefork = Prefork(self.home / "node", self.options.preforked, self.environment())

    @property
    def groups(self) -> ControlGroups | None:
        return self.enforcement.groups

    @property
    def facts(self) -> NodeFacts:
        return NodeFacts(
            self.options.name, self.options.address, float(self.machine.cores), self.machine.memory_bytes
        )  # fmt: skip

    def ports_taken(self) -> frozenset[int]:
        return frozenset(port for ports in self.ports.values() for port in ports)

    def environment(self) -> dict[str, str]:
        """What every container finds in its environment: little, and nothing of the node's own secrets."""
        server = urlsplit(self.client.connection.server)
        default_port = 443 if server.scheme == "https" else 80
        found = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "PYTHONUNBUFFERED": "1",
            "KUBERNETES_SERVICE_HOST": server.hostname or "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(server.port or default_port),
            "KUBERNETES_SERVICE_PORT_HTTPS": str(server.port or default_port),
        }
        if self.options.pythonpath and os.environ.get("PYTHONPATH"):
            found["PYTHONPATH"] = os.environ["PYTHONPATH"]
        return found

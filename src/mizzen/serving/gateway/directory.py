"""What is to be served, by whom and to whom: the values, and the port through which they come.

A directory (`kubernetes`, `file`) runs for ever and tells a `Listener` each change as it sees it, and once when it has
told everything there was (`synced`). It never takes anything back because it cannot reach its source. Calls come on the
event loop's thread; a listener is quick and does not raise.
"""

from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from mizzen.policy.queue import Rules
from mizzen.serving.tensors import Signature

EndpointKey = tuple[str, str]
"""Namespace and name."""


class Version(msgspec.Struct, frozen=True):
    """A model version that gets requests."""

    model: str
    version: int
    digest: str
    """`sha256:<hex>`: what its workers are known by."""
    percent: int = 100
    signature: Signature | None = None
    """`None` where it is not known yet: the first worker of that version tells."""


class Caching(msgspec.Struct, frozen=True):
    """How an endpoint's answers are kept (`cache`)."""

    ttl_s: float
    bytes_max: int
    """In each process's memory."""
    machine_bytes_max: int = 0
    """Shared by the gateway processes of a machine; 0: not."""
    remote: bool = False
    """Whether in the gateways' Redis too, where they have one."""


class GraphPlan(msgspec.Struct, frozen=True):
    """An endpoint that is a graph (`graph`)."""

    spec: dict[str, Any]
    """As it is declared: the wire form of `kinds.graph.Graph`."""
    versions: dict[str, tuple[Version, ...]] = {}
    """What gets requests at each node that is a model, by the node's name."""


class Logging(msgspec.Struct, frozen=True):
    """How requests are logged (`mizzen.serving.predictionlog`)."""

    sample: float = 1.0
    """The share of requests that is logged; those that fail are logged whatever this says, if `errors`."""
    by: Literal["request", "unit"] = "request"
    """Whether each request is drawn, or each unit with all its requests."""
    errors: bool = True
    redact: tuple[str, ...] = ()
    """Columns, inputs, outputs and features whose values are not logged."""
    buffer_bytes: int = 8 << 20
    """Of the ring of each gateway process."""
    sink: str = ""
    """Where CloudEvents are sent; empty: nowhere."""
    events: Literal["request", "response", "all"] = "all"


class View(msgspec.Struct, frozen=True):
    """A FeatureView; what is read of it is told in the online store itself."""

    namespace: str
    name: str
    digest: str = ""
    """Of the definition that is online: where it changes, readers look again."""
    audited: float = 0.0
    """The share of entities whose reads are recorded."""
    skew: float | None = None
    """The share of values that the last audit found other online than offline."""

    @property
    def key(self) -> EndpointKey:
        return self.namespace, self.name


Otherwise = Literal["error", "default", "empty"]
"""In the place of features that are not there (`kinds.lookups`)."""


class ViewUse(msgspec.Struct, frozen=True):
    """What is looked up in one view."""

    view: str
    version: str | None = None
    """`None`: the one that is declared."""
    features: tuple[str, ...] = ()
    """Empty: all."""
    prefix: str = ""
    keys: dict[str, str] = {}
    missing: Otherwise = "default"
    stale: Otherwise = "default"
    unavailable: Otherwise = "error"


class Lookup(msgspec.Struct, frozen=True):
    """The features that an endpoint looks up for its requests (`features`)."""

    views: tuple[ViewUse, ...]
    columns: dict[str, str] = {}
    """Types of columns of the request that only request-time features are made of."""
    time: str | None = None
    """The column of the request that says when it is asked; `None`: when it comes."""


class Tenant(msgspec.Struct, frozen=True):
    """A caller with a share of its own."""

    name: str
    """Of its API key's Secret."""
    weight: float = 1.0
    """Its share of the workers while several callers wait."""
    priority: int = 1
    """The most urgent priority that its requests may have."""


class Endpoint(msgspec.Struct, frozen=True):
    """A model behind a URL."""

    namespace: str
    name: str
    anonymous: bool = False
    """Whether anyone may call, without an API key."""
    batch_rows_max: int = 256
    queue_rows_max: int = 8192
    timeout_s: float = 30.0
    """How long a request may take in all, unless it says less."""
    batch_bytes_max: int = 32 << 20
    queue_bytes_max: int = 256 << 20
    batch_delay_s: float = 0.0
    latency_target_s: float | None = None
    priority_levels: int = 1
    priority_default: int = 1
    tenants: tuple[Tenant, ...] = ()
    versions: tuple[Version, ...] = ()
    cache: Caching | None = None
    graph: GraphPlan | None = None
    """Instead of `versions`."""
    logging: Logging | None = None
    """`None`: requests are not logged."""
    features: Lookup | None = None
    """`None`: requests carry all that the model takes."""
    hopeless: str | None = None
    """Why no version will come, where that is known: requests are then refused at once and not held."""

    @property
    def key(self) -> EndpointKey:
        return self.namespace, self.name

    @property
    def rules(self) -> Rules:
        """Its queue's."""
        return Rules(
            rows_max=self.queue_rows_max,
            bytes_max=self.queue_bytes_max,
            batch_rows_max=self.batch_rows_max,
            batch_bytes_max=self.batch_bytes_max,
            batch_delay_s=self.batch_delay_s,
            latency_target_s=self.latency_target_s,
            priority_levels=self.priority_levels,
            priority_default=self.priority_default,
            weights={tenant.name: tenant.weight for tenant in self.tenants},
            priority_floors={tenant.name: tenant.priority for tenant in self.tenants},
        )


class UnixAddress(msgspec.Struct, frozen=True, tag="unix"):
    """A socket on this machine."""

    path: Path


class TcpAddress(msgspec.Struct, frozen=True, tag="tcp"):
    """A worker elsewhere."""

    host: str
    port: int


class Worker(msgspec.Struct, frozen=True):
    """A ready worker Pod."""

    uid: str
    """Unique and never used again."""
    namespace: str
    endpoint: str
    digest_prefix: str
    """The first hex digits of its model's digest; what it really has it says itself."""
    address: UnixAddress | TcpAddress


class ApiKey(msgspec.Struct, frozen=True):
    """Who holds the key with this hash may call these endpoints of that namespace."""

    hash: str
    """Hex SHA-256 of the key."""
    namespace: str
    endpoints: frozenset[str] | None
    """`None`: all of the namespace."""
    features: frozenset[str] | None = frozenset()
    """The FeatureViews that may be read with it; `None`: all of the namespace."""


class Listener(Protocol):
    """Who is told. Each call replaces what was said before under the same name."""

    def endpoint_changed(self, endpoint: Endpoint) -> None: ...
    def endpoint_gone(self, key: EndpointKey) -> None: ...
    def worker_changed(self, worker: Worker) -> None: ...
    def worker_gone(self, uid: str) -> None: ...
    def view_changed(self, view: View) -> None: ...
    def view_gone(self, key: EndpointKey) -> None: ...
    def key_changed(self, name: str, key: ApiKey) -> None: ...
    def key_gone(self, name: str) -> None: ...
    def synced(self) -> None: ...


class Directory(Protocol):
    """Where the values come from."""

    async def run(self, listener: Listener) -> None:
        """Tells the listener everything, and then each change, until cancelled."""

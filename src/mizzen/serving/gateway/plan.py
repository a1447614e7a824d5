"""What the parent tells a gateway process: plain values, passed as JSON."""

from typing import Literal

import msgspec

GrpcTransport = Literal["auto", "grpcio", "native"]
EXIT_CONFIGURATION = 2
"""A process's exit status that says: starting me again will not help."""


class Limits(msgspec.Struct, frozen=True):
    """What clients may send."""

    body_bytes_max: int = 64 << 20
    """One request's body."""
    bodies_bytes_max: int = 1 << 30
    """All bodies that a process holds at once; beyond, requests are told to come again."""
    body_timeout_s: float = 30.0
    """A body has to be there this long after its headers."""


class Plan(msgspec.Struct, frozen=True):
    """One process's part."""

    slot: int
    listen_fd: int
    parent_fd: int
    """A pipe that ends when the parent does."""
    metrics_dir: str
    metrics_for_all: bool = False
    """Whether the metrics page is for anyone, or for callers on this machine only."""
    directory_file: str | None = None
    """A file that says what is served (`file`), instead of a Kubernetes API."""
    kubeconfig: str | None = None
    report_to: str | None = None
    """Where the scaling controller listens (`reporting`)."""
    log_dir: str | None = None
    """Folder of the prediction log's rings; `None`: nothing is logged."""
    online_url: str | None = None
    """The online store of features (`lmdb:///…`, `redis://…`); `None`: endpoints cannot look features up."""
    traces_url: str | None = None
    """An OpenTelemetry collector (OTLP over HTTP); `None`: nothing is traced."""
    traces_ratio: float = 1.0
    """The share of requests that is traced, of those whose callers say nothing of it."""
    access_log: str | None = None
    """A file for a line a request; `-`: standard output; `None`: none."""
    http: Literal["llhttp", "granian"] = "llhttp"
    """Which HTTP server (`http`)."""
    grpc_address: str | None = None
    """`HOST:PORT` that all processes share for gRPC; `None`: no gRPC."""
    grpc: GrpcTransport = "auto"
    """What carries it (`grpc.transport`)."""
    limits: Limits = Limits()

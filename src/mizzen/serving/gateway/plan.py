"""What the parent tells a gateway process: plain values, passed as JSON."""

from typing import Literal

import msgspec

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
    http: Literal["llhttp", "granian"] = "llhttp"
    """Which HTTP server (`http`)."""
    limits: Limits = Limits()

"""A Pod's spec as the node reads it: the fields it acts on, with Kubernetes' defaults, as immutable values.

Reading never fails: an API server has validated what it sent, and what this node does not know is left to
`unsupported`, which names it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mizzen.kube.times import parse_time

Json = Mapping[str, Any]
ProbeKind = Literal["startup", "readiness", "liveness"]
PROBE_KINDS: tuple[ProbeKind, ...] = ("startup", "readiness", "liveness")
RestartPolicy = Literal["Always", "OnFailure", "Never"]


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """One probe of one container. Times in seconds."""

    kind: ProbeKind
    action: Json
    """`{"httpGet": …}`, `{"tcpSocket": …}`, `{"exec": …}` or `{"grpc": …}`."""
    initial_delay_s: float = 0.0
    period_s: float = 10.0
    timeout_s: float = 1.0
    success_threshold: int = 1
    failure_threshold: int = 3
    grace_s: float | None = None
    """How long the container may take to end when this probe has it killed; `None`: as the Pod says."""

    @classmethod
    def parse(cls, kind: ProbeKind, probe: Json) -> "ProbeSpec":
        grace_s = probe.get("terminationGracePeriodSeconds")
        return cls(
            kind,
            {key: value for key, value in probe.items() if key in {"httpGet", "tcpSocket", "exec", "grpc"}},
            float(probe.get("initialDelaySeconds") or 0),
            float(probe.get("periodSeconds") or 10),
            float(probe.get("timeoutSeconds") or 1),
            int(probe.get("successThreshold") or 1),
            int(probe.get("failureThreshold") or 3),
            None if grace_s is None else float(grace_s),
        )


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One container. `raw` is the whole of it, for what only one module reads."""

    name: str
    raw: Json
    role: Literal["init", "sidecar", "main"]
    """`sidecar`: an init container with restartPolicy Always, which runs beside the main ones until they have ended."""
    probes: Mapping[ProbeKind, ProbeSpec] = field(default_factory=dict)

    @classmethod
    def parse(cls, container: Json, *, init: bool) -> "ContainerSpec":
        role: Literal["init", "sidecar", "main"] = "main"
        if init:
            role = "sidecar" if container.get("restartPolicy") == "Always" else "init"
        probes = {
            kind: ProbeSpec.parse(kind, container[f"{kind}Probe"])
            for kind in PROBE_KINDS
            if container.get(f"{kind}Probe") and role != "init"
        }
        return cls(container["name"], container, role, probes)

    @property
    def image(self) -> str:
        return str(self.raw.get("image") or "")

    @property
    def message_path(self) -> str:
        return str(self.raw.get("terminationMessagePath") or "/dev/termination-log")

    @property
    def message_from_log(self) -> bool:
        return self.raw.get("terminationMessagePolicy") == "FallbackToLogsOnError"

    def hook(self, name: Literal["postStart", "preStop"]) -> Json | None:
        """The handler of a life-cycle hook."""
        handler: Json | None = (self.raw.get("lifecycle") or {}).get(name)
        return handler


@dataclass(frozen=True, slots=True)
class PodSpec:
    """One Pod as its API server has it."""

    uid: str
    namespace: str
    name: str
    raw: Json
    """The whole object."""
    containers: tuple[ContainerSpec, ...]
    """In the order in which they start: init containers and sidecars, then the main ones."""
    restart_policy: RestartPolicy = "Always"
    grace_s: float = 30.0
    """How long its containers may take to end, unless its deletion says otherwise."""
    active_limit_s: float | None = None
    deletion_grace_s: float | None = None
    """`None` while nobody has asked for its deletion."""

    @classmethod
    def parse(cls, pod: Json) -> "PodSpec":
        meta, spec = pod["metadata"], pod.get("spec") or {}
        grace = spec.get("terminationGracePeriodSeconds")
        limit = spec.get("activeDeadlineSeconds")
        grace_s = 30.0 if grace is None else float(grace)
        deleting = meta.get("deletionTimestamp") is not None
        deletion_grace = meta.get("deletionGracePeriodSeconds")
        return cls(
            uid=meta["uid"],
            namespace=meta["namespace"],
            name=meta["name"],
            raw=pod,
            containers=tuple(
                [ContainerSpec.parse(c, init=True) for c in spec.get("initContainers") or ()]
                + [ContainerSpec.parse(c, init=False) for c in spec.get("containers") or ()]
            ),
            restart_policy=spec.get("restartPolicy") or "Always",
            grace_s=grace_s,
            active_limit_s=None if limit is None else float(limit),
            deletion_grace_s=(grace_s if deletion_grace is None else float(deletion_grace)) if deleting else None,
        )

    @property
    def spec(self) -> Json:
        spec: Json = self.raw.get("spec") or {}
        return spec

    @property
    def status(self) -> Json:
        """What the API server has; the node's own knowledge comes first wherever it has any."""
        status: Json = self.raw.get("status") or {}
        return status

    @property
    def labels(self) -> Mapping[str, str]:
        return self.raw["metadata"].get("labels") or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.raw["metadata"].get("annotations") or {}

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def generation(self) -> int:
        return int(self.raw["metadata"].get("generation") or 0)

    @property
    def start_time(self) -> float | None:
        """`status.startTime` on the wall clock, where a node wrote one."""
        moment = parse_time(self.status.get("startTime"))
        return None if moment is None else moment.timestamp()

    def in_role(self, *roles: str) -> tuple[ContainerSpec, ...]:
        return tuple(container for container in self.containers if container.role in roles)

    def container(self, name: str) -> ContainerSpec | None:
        return next((container for container in self.containers if container.name == name), None)

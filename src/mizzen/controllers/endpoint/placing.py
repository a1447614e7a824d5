"""Where a version's workers may go, and how much memory a node keeps for each.

A version that has run somewhere was measured: its workers ask for what one took at its most until it was ready, and a
tenth more, so that workers that are loaded at the same time fit together on their node. One that never ran asks for all
that it may take (`spec.worker.resources.memory`), which stays its limit in either case. A version that did not come up
on some nodes prefers others.

Both stand in the Pod template, and another template would replace the workers: so they are decided while there are
none, and are left as they are while there are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lightkube.models.apps_v1 import DeploymentSpec
from lightkube.models.core_v1 import (
    Affinity,
    NodeAffinity,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    PreferredSchedulingTerm,
)
from lightkube.resources.apps_v1 import Deployment

from mizzen.kinds import InferenceEndpoint
from mizzen.kinds.scalars import quantity

MARGIN = 1.1
STEP_BYTES = 16 << 20
"""Measurements differ a little each time; what is asked for shall not."""
HOSTNAME = "kubernetes.io/hostname"


@dataclass(frozen=True, slots=True)
class Placing:
    """What differs from worker to worker of one endpoint."""

    memory: str | None = None
    """Asked for on the node; `None`: as much as the limit."""
    avoid: tuple[str, ...] = ()
    """Nodes that are not preferred."""


ANYWHERE = Placing()


class Peaks:
    """The most that a worker of the same bytes ever took, anywhere. `seen` is for an informer to call."""

    def __init__(self) -> None:
        self._bytes: dict[str, int] = {}

    def seen(self, _: InferenceEndpoint | None, endpoint: InferenceEndpoint | None) -> None:
        for one in endpoint.status.traffic if endpoint is not None else ():
            if one.peak_bytes is not None:
                self._bytes[one.digest] = max(self._bytes.get(one.digest, 0), one.peak_bytes)

    def of(self, digest: str) -> int | None:
        """`None`: none was measured."""
        return self._bytes.get(digest)


def placing(
    endpoint: InferenceEndpoint, found: Deployment | None, peak_bytes: int | None, failed_on: Sequence[str]
) -> Placing:
    """How a version's workers are placed. `found`: their Deployment; `peak_bytes`: what one was measured to take."""
    if found is not None and found.spec.replicas != 0:
        return _as_made(found.spec)
    limit = int(quantity(endpoint.spec.worker.resources.memory))
    asked = limit if peak_bytes is None else math.ceil(peak_bytes * MARGIN / STEP_BYTES) * STEP_BYTES
    return Placing(f"{asked >> 20}Mi" if asked < limit else None, tuple(failed_on))


def place(spec: DeploymentSpec, placing: Placing) -> None:
    """Puts it into the Pod template."""
    pod = spec.template.spec
    assert pod is not None, "a Deployment of workers has Pods"
    resources = pod.containers[0].resources
    if placing.memory is not None and resources is not None:
        resources.requests = {**(resources.requests or {}), "memory": placing.memory}
    if placing.avoid:
        others = NodeSelectorTerm([NodeSelectorRequirement(HOSTNAME, "NotIn", values=list(placing.avoid))])
        pod.affinity = Affinity(
            nodeAffinity=NodeAffinity(
                preferredDuringSchedulingIgnoredDuringExecution=[PreferredSchedulingTerm(others, 100)]
            )
        )


def _as_made(spec: DeploymentSpec) -> Placing:
    pod = spec.template.spec
    if pod is None:
        return ANYWHERE
    resources = pod.containers[0].resources
    asked = ((resources.requests if resources is not None else None) or {}).get("memory")
    limit = ((resources.limits if resources is not None else None) or {}).get("memory")
    affinity = pod.affinity.nodeAffinity if pod.affinity is not None else None
    preferred = (affinity.preferredDuringSchedulingIgnoredDuringExecution or ()) if affinity is not None else ()
    avoid = [
        node
        for term in preferred
        for one in term.preference.matchExpressions or ()
        if (one.key, one.operator) == (HOSTNAME, "NotIn")
        for node in one.values or ()
    ]
    return Placing(str(asked) if asked != limit and asked is not None else None, tuple(avoid))

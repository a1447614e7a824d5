"""What Pods ask for and nodes have, in numbers: cores, bytes, and counts of anything else."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from mizzen.kinds.scalars import quantity
from mizzen.local.cluster.objects import Object, spec_of

Amounts = dict[str, Decimal]
"""Resource name to amount: `cpu` in cores, `memory` in bytes, `nvidia.com/gpu` in devices."""


@lru_cache(maxsize=4096)
def _number(text: str) -> Decimal:
    return quantity(text)


def amounts(quantities: Mapping[str, Any] | None) -> Amounts:
    """Kubernetes quantities as numbers. Raises `ValueError` where one is none, which no server lets through."""
    return {name: _number(str(text)) for name, text in (quantities or {}).items()}


def total(parts: Iterable[Amounts]) -> Amounts:
    """The sum, resource by resource."""
    summed: Amounts = {}
    for part in parts:
        for name, amount in part.items():
            summed[name] = summed.get(name, Decimal(0)) + amount
    return summed


def _most(parts: Iterable[Amounts]) -> Amounts:
    most: Amounts = {}
    for part in parts:
        for name, amount in part.items():
            most[name] = max(most.get(name, amount), amount)
    return most


def requests_of(pod: Object) -> Amounts:
    """What the node must set aside for a Pod.

    Containers run together and add up. Init containers run one after the other, before, so the largest counts, beside
    the sidecars started until then (init containers that restart always); and a Pod's overhead comes on top.
    """
    spec = spec_of(pod)
    together = total(_requests(container) for container in spec.get("containers") or ())
    sidecars: Amounts = {}
    peaks = []
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            sidecars = total([sidecars, _requests(container)])
            peaks.append(sidecars)
        else:
            peaks.append(total([sidecars, _requests(container)]))
    most = _most([total([together, sidecars]), *peaks])
    return total([most, amounts(spec.get("overhead")), {"pods": Decimal(1)}])


def _requests(container: Mapping[str, Any]) -> Amounts:
    resources = container.get("resources") or {}
    # A limit without a request is a request, which servers write down; here for those that do not.
    return amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})})

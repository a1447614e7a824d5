"""What works in a Pod or in a template of Pods but is hardly meant: in Kubernetes' words, for `Warning` headers."""

from collections.abc import Iterator
from decimal import Decimal

from mizzen.kinds.scalars import quantity
from mizzen.local.apiserver.schema.causes import quoted
from mizzen.local.apiserver.types import Json

_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
_BYTES = ("memory", "ephemeral-storage")
_NO_SELECTOR = "a null labelSelector results in matching no pod"


def pod_warnings(spec: Json, path: str) -> Iterator[str]:
    """`path` leads to the spec."""
    for index, constraint in enumerate(spec.get("topologySpreadConstraints") or ()):
        if constraint.get("labelSelector") is None:
            yield f"{path}.topologySpreadConstraints[{index}].labelSelector: {_NO_SELECTOR}"
    yield from _repeated(spec.get("hostAliases") or [], f"{path}.hostAliases", "ip")
    yield from _repeated(spec.get("imagePullSecrets") or [], f"{path}.imagePullSecrets", "name")
    for index, secret in enumerate(spec.get("imagePullSecrets") or ()):
        if not secret.get("name"):
            yield f'{path}.imagePullSecrets[{index}].name: invalid empty name ""'
    containers = [
        (container, f"{path}.{field}[{index}]")
        for field in _CONTAINERS
        for index, container in enumerate(spec.get(field) or ())
    ]
    for container, place in containers:
        yield from _fractions(container, place)
        yield from _hidden(container.get("env") or [], f"{place}.env")
    ports = [
        (port, f"{place}.ports[{index}]")
        for container, place in containers
        for index, port in enumerate(container.get("ports") or ())
    ]
    yield from _overlaps(ports)
    yield from _port_names(ports)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        text = "must be >= 0; negative values are invalid and will be treated as 1"
        yield f"{path}.terminationGracePeriodSeconds: {text}"
    for kind in ("podAffinity", "podAntiAffinity"):
        yield from _no_selectors((spec.get("affinity") or {}).get(kind) or {}, f"{path}.affinity.{kind}")


def _repeated(items: list[Json], path: str, field: str) -> Iterator[str]:
    seen = set()
    for index, item in enumerate(items):
        value = item.get(field, "")
        if value in seen:
            yield f"{path}[{index}].{field}: duplicate {field} {quoted(value)}"
        seen.add(value)


def _fractions(container: Json, place: str) -> Iterator[str]:
    for kind, amounts in (container.get("resources") or {}).items():
        for name in _BYTES:
            amount = amounts.get(name) if isinstance(amounts, dict) else None
            if amount is not None and Decimal(quantity(str(amount))) % 1:
                text = f"fractional byte value {quoted(str(amount))} is invalid, must be an integer"
                yield f"{place}.resources.{kind}[{name}]: {text}"


def _hidden(variables: list[Json], path: str) -> Iterator[str]:
    seen = set()
    for index, variable in enumerate(variables):
        name, value = variable.get("name", ""), variable.get("value", "")
        reference = f"$({name})"
        extends = variable.get("valueFrom") is None and reference in value and value != reference
        if name in seen and not extends:
            yield (
                f"{path}[{index}]: hides previous definition of {quoted(name)}, which may be dropped when using apply"
            )
        seen.add(name)


def _overlaps(ports: list[tuple[Json, str]]) -> Iterator[str]:
    for index, (port, place) in enumerate(ports):
        host, address = port.get("hostPort") or 0, port.get("hostIP") or ""
        for other, elsewhere in ports[:index]:
            if (port.get("containerPort"), port.get("protocol")) != (other.get("containerPort"), other.get("protocol")):
                continue
            other_host, other_address = other.get("hostPort") or 0, other.get("hostIP") or ""
            if (host, address) == (other_host, other_address):
                yield f"{place}: duplicate port definition with {elsewhere}"
            elif not host or not other_host:
                yield f"{place}: overlapping port definition with {elsewhere}"
            elif host == other_host and (not address) != (not other_address):
                yield f"{place}: dangerously ambiguous port definition with {elsewhere}"


def _port_names(ports: list[tuple[Json, str]]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for port, place in ports:
        name = port.get("name")
        if name and name in seen:
            first = seen[name]
            use = f"services and probes that select ports by name will use {first}"
            yield f"{place}: duplicate port name {quoted(name)} with {first}, {use}"
        elif name:
            seen[name] = place


def _no_selectors(affinity: Json, path: str) -> Iterator[str]:
    field = "requiredDuringSchedulingIgnoredDuringExecution"
    for index, term in enumerate(affinity.get(field) or ()):
        if term.get("labelSelector") is None:
            yield f"{path}.{field}[{index}].labelSelector: {_NO_SELECTOR}"
    field = "preferredDuringSchedulingIgnoredDuringExecution"
    for index, weighted in enumerate(affinity.get(field) or ()):
        if (weighted.get("podAffinityTerm") or {}).get("labelSelector") is None:
            yield f"{path}.{field}[{index}].podAffinityTerm.labelSelector: {_NO_SELECTOR}"

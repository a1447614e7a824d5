"""What Kubernetes warns of in Pods and Pod templates: what is accepted and hardly meant.

Each warning begins with the field it is about, under `path` (empty for a Pod, `spec.template` for a template).
"""

from collections.abc import Iterable, Iterator

from mizzen.kinds.scalars import quantity
from mizzen.local.apiserver.schema.causes import child, quoted
from mizzen.local.apiserver.types import Json

_BYTES = ("memory", "ephemeral-storage")


def pod_warnings(value: Json, path: str = "") -> Iterator[str]:
    """Of a Pod, or of the template at `path`, that has been found valid."""
    spec, place = value.get("spec") or {}, child(path, "spec")
    yield from _repeated(spec.get("hostAliases") or (), "ip", f"{place}.hostAliases")
    yield from _repeated(spec.get("imagePullSecrets") or (), "name", f"{place}.imagePullSecrets")
    containers = [
        (f"{place}.{field}[{index}]", container)
        for field in ("initContainers", "containers")
        for index, container in enumerate(spec.get(field) or ())
    ]
    for field, container in containers:
        yield from _fractions(container.get("resources") or {}, f"{field}.resources")
        yield from _hidden_variables(container.get("env") or (), f"{field}.env")
    ports = [
        (f"{field}.ports[{index}]", port)
        for field, container in containers
        for index, port in enumerate(container.get("ports") or ())
    ]
    yield from _ports_twice(ports)
    yield from _port_names_twice(ports)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        detail = "must be >= 0; negative values are invalid and will be treated as 1"
        yield f"{place}.terminationGracePeriodSeconds: {detail}"


def _repeated(items: Iterable[Json], key: str, path: str) -> Iterator[str]:
    seen = set()
    for index, item in enumerate(items):
        if item.get(key, "") in seen:
            yield f"{path}[{index}].{key}: duplicate {key} {quoted(item.get(key, ''))}"
        seen.add(item.get(key, ""))


def _fractions(resources: Json, path: str) -> Iterator[str]:
    for field in ("limits", "requests"):
        for name in _BYTES:
            amount = (resources.get(field) or {}).get(name)
            if amount is not None and quantity(str(amount)) % 1:
                detail = f"fractional byte value {quoted(str(amount))} is invalid, must be an integer"
                yield f"{path}.{field}[{name}]: {detail}"


def _hidden_variables(variables: Iterable[Json], path: str) -> Iterator[str]:
    """A variable that is set again, and not to something made of what it was."""
    seen = set()
    for index, variable in enumerate(variables):
        name, value = variable.get("name", ""), variable.get("value") or ""
        before = f"$({name})"
        if name in seen and (variable.get("valueFrom") is not None or value == before or before not in value):
            yield f"{path}[{index}]: hides previous definition of {quoted(name)}, which may be dropped when using apply"
        seen.add(name)


def _ports_twice(ports: list[tuple[str, Json]]) -> Iterator[str]:
    seen: dict[tuple[int, str], list[tuple[str, str, int]]] = {}
    for path, port in ports:
        address, host_port = port.get("hostIP") or "", port.get("hostPort") or 0
        others = seen.setdefault((port.get("containerPort", 0), port.get("protocol", "")), [])
        for other, other_address, other_port in others:
            if (address, host_port) == (other_address, other_port):
                yield f"{path}: duplicate port definition with {other}"
            elif not host_port or not other_port:
                yield f"{path}: overlapping port definition with {other}"
            elif host_port == other_port and bool(address) != bool(other_address):
                yield f"{path}: dangerously ambiguous port definition with {other}"
        others.append((path, address, host_port))


def _port_names_twice(ports: list[tuple[str, Json]]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for path, port in ports:
        name = port.get("name") or ""
        if not name:
            continue
        if (first := seen.get(name)) is not None:
            also = f"services and probes that select ports by name will use {first}"
            yield f"{path}: duplicate port name {quoted(name)} with {first}, {also}"
        seen.setdefault(name, path)

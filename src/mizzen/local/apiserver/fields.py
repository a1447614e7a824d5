"""Which fields the field selectors of each resource may name, and what they are in an object.

All resources have `metadata.name` and `metadata.namespace`. Fields are compared as text; an absent one is empty, or
`false` where it is a flag.
"""

from collections.abc import Callable, Mapping

from mizzen.local.apiserver.catalog import EVENTS, Served
from mizzen.local.apiserver.store import Record
from mizzen.local.apiserver.types import Json

_COMMON = ("metadata.name", "metadata.namespace")
_FLAGS = frozenset({"spec.hostNetwork", "spec.unschedulable"})
_NUMBERS = frozenset({"status.replicas", "status.successful"})
_SELECTABLE: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "pods"): (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    EVENTS: (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    ("", "nodes"): ("spec.unschedulable",),
    ("", "namespaces"): ("status.phase",),
    ("", "secrets"): ("type",),
    ("", "services"): ("spec.clusterIP", "spec.type"),
    ("apps", "replicasets"): ("status.replicas",),
    ("batch", "jobs"): ("status.successful",),
}
_REGARDING = "regarding."
_INVOLVED = "involvedObject."


def stored_field(served: Served, name: str) -> str:
    """The field of the kept version that a field of the served version is: Events have two sets of names."""
    if served.key == EVENTS and not served.direct:
        if name.startswith(_REGARDING):
            return _INVOLVED + name.removeprefix(_REGARDING)
        return "reportingComponent" if name == "reportingController" else name
    return name


def refusal(served: Served, name: str) -> str:
    """Why field selectors of the type may not name a field; empty when they may."""
    stored = stored_field(served, name)
    foreign = served.key == EVENTS and not served.direct and name.startswith(_INVOLVED)
    common = _COMMON if served.rtype.namespaced else _COMMON[:1]
    if stored in common or (stored in _paths(served) and not foreign):
        return ""
    if served.rtype.custom or served.key in _SELECTABLE:
        return f"field label not supported: {name}"
    return f'"{name}" is not a known field selector: only "metadata.name", "metadata.namespace"'


def _paths(served: Served) -> tuple[str, ...]:
    """Fields beside the common ones; a definition writes its own as JSON paths, `.spec.color`."""
    return _SELECTABLE.get(served.key) or tuple(path.removeprefix(".") for path in served.rtype.selectable_fields)


def reader(served: Served) -> Callable[[Record, str], str]:
    """How to read a field of a record: name and namespace without decoding it, others once for each record."""
    paths = _paths(served)

    def extract(obj: Json) -> Mapping[str, str]:
        return {path: _text(obj, path) for path in paths}

    def read(record: Record, name: str) -> str:
        if name == "metadata.name":
            return record.name
        if name == "metadata.namespace":
            return record.namespace
        return record.fields(extract).get(name, "")

    return read


def _text(obj: Json, path: str) -> str:
    if path == "source":  # of an Event: its component, whichever way it is given
        source = obj.get("source") or {}
        return str(source.get("component") or obj.get("reportingComponent") or "")
    value: object = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if value is None:
        return "false" if path in _FLAGS else "0" if path in _NUMBERS else ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)

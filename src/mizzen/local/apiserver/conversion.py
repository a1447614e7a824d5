"""Objects between the version asked for and the version kept.

The versions of a custom resource differ in `apiVersion` alone. `events.k8s.io/v1` names the fields of a core Event
differently; both are one object in one place, as in Kubernetes.
"""

from mizzen.local.apiserver.catalog import EVENTS, Served
from mizzen.local.apiserver.types import Json

_EVENT_FIELDS = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_EVENT_FIELDS_BACK = {new: old for old, new in _EVENT_FIELDS.items()}


def to_stored(served: Served, obj: Json) -> Json:
    """An object of the served version as it is kept: the same object when that is no different."""
    if served.direct:
        return obj
    converted = {**obj, "apiVersion": served.stored_api_version}
    return _renamed(converted, _EVENT_FIELDS_BACK) if served.key == EVENTS else converted


def from_stored(served: Served, obj: Json) -> Json:
    """A kept object in the served version."""
    if served.direct:
        return obj
    converted = {**obj, "apiVersion": served.rtype.api_version}
    return _renamed(converted, _EVENT_FIELDS) if served.key == EVENTS else converted


def _renamed(obj: Json, names: dict[str, str]) -> Json:
    return {names.get(name, name): value for name, value in obj.items()}

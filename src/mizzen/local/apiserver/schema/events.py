"""Events in the words of both APIs: `v1` and `events.k8s.io/v1` are two views of the same objects.

They are stored in the core form. Where fields have other names, they are the same fields.
"""

from mizzen.local.apiserver.types import Json

_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "reportingComponent": "reportingController",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
"""Names in the core API, and those in `events.k8s.io`."""
_BACK = {new: core for core, new in _NAMES.items()}


def to_core(event: Json) -> Json:
    """An `events.k8s.io/v1` Event as a core one."""
    return {_BACK.get(name, name): value for name, value in event.items()} | {"apiVersion": "v1", "kind": "Event"}


def from_core(event: Json) -> Json:
    """A core Event as an `events.k8s.io/v1` one."""
    renamed = {_NAMES.get(name, name): value for name, value in event.items()}
    return renamed | {"apiVersion": "events.k8s.io/v1", "kind": "Event"}

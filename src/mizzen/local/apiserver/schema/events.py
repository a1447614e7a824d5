"""Events in the words of both APIs: `v1` and `events.k8s.io/v1` are two views of the same objects.

They are stored in the core form. Where fields have other names, they are the same fields.
"""

from collections.abc import Callable, Iterable, Iterator

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import names
from mizzen.local.apiserver.schema.causes import invalid, required
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


def event(value: Json) -> Iterator[Cause]:
    yield from _event(
        value, (value.get("involvedObject") or {}).get("namespace") or "", "reportingComponent", "message"
    )


def new_event(value: Json) -> Iterator[Cause]:
    """Of `events.k8s.io`: other names for the same fields."""
    involved = (value.get("regarding") or {}).get("namespace") or ""
    yield from _event(value, involved, "reportingController", "note")


def _event(value: Json, involved: str, controller: str, message: str) -> Iterator[Cause]:
    """An `eventTime` makes an event a new one, of which more is asked."""
    namespace, place = (value.get("metadata") or {}).get("namespace") or "", "involvedObject.namespace"
    if not value.get("eventTime"):
        if (involved or "default") != namespace:
            yield invalid(place, involved, "does not match event.namespace")
        return
    if not involved and namespace not in {"default", "kube-system"}:
        yield invalid(place, involved, "does not match event.namespace")
    component = value.get(controller) or ""
    if not component:
        yield required(controller)
    yield from (invalid(controller, component, reason) for reason in names.qualified_name(component))
    for field in ("reportingInstance", "action", "reason"):
        if not value.get(field):
            yield required(field)
    for field, longest in (("reportingInstance", 128), ("action", 128), ("reason", 128), (message, 1024)):
        if len((value.get(field) or "").encode()) > longest:
            named = "message" if field == "note" else field
            yield invalid(named, "", f"can have at most {longest} characters")


CHECKS: dict[str, Callable[[Json], Iterable[Cause]]] = {"core.v1.Event": event, "events.v1.Event": new_event}

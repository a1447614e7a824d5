"""What Kubernetes checks of Events, in both APIs.

An Event with an `eventTime` is of the new kind, whichever API it comes by, and says who reports what. Whoever creates
one by `events.k8s.io` is held to more: nothing of the old kind, and a type of the two.
"""

from collections.abc import Callable, Iterable, Iterator

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import names
from mizzen.local.apiserver.schema.causes import invalid, required
from mizzen.local.apiserver.types import Json

_LONGEST = {"reportingInstance": 128, "action": 128, "reason": 128, "message": 1024}
_OF_THE_OLD_KIND = {
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
    "deprecatedSource": "source",
}
_WITHOUT_NAMESPACE = frozenset({"default", "kube-system"})


def event(value: Json, involved: str, message: str, reporter: str) -> Iterator[Cause]:
    """An Event whose API has these names for the object it is about, its text and who reports."""
    about = (value.get(involved) or {}).get("namespace") or ""
    namespace = (value.get("metadata") or {}).get("namespace") or ""
    if value.get("eventTime"):
        if not about and namespace not in _WITHOUT_NAMESPACE:
            yield invalid("involvedObject.namespace", about, "does not match event.namespace")
        yield from _new_kind({**value, "message": value.get(message)}, reporter)
    elif (about or "default") != namespace:
        yield invalid("involvedObject.namespace", about, "does not match event.namespace")


def _new_kind(value: Json, reporter: str) -> Iterator[Cause]:
    yield from (
        required(field) for field in (reporter, "reportingInstance", "action", "reason") if not value.get(field)
    )
    given = value.get(reporter) or ""
    yield from (invalid(reporter, given, reason) for reason in names.qualified_name(given))
    for field, longest in _LONGEST.items():
        if len((value.get(field) or "").encode()) > longest:
            yield invalid(field, "", f"can have at most {longest} characters")


def created_by_the_new_api(value: Json) -> Iterator[Cause]:
    series = value.get("series")
    if series is not None and (series.get("count") or 0) < 2:
        yield invalid("series.count", "", "should be at least 2")
    if series is not None and not series.get("lastObservedTime"):
        yield required("series.lastObservedTime")
    if not value.get("eventTime"):
        yield required("eventTime")
    if value.get("type") not in {"Normal", "Warning"}:
        yield invalid("type", "", f"has invalid value: {value.get('type') or ''}")
    for field, name in _OF_THE_OLD_KIND.items():
        if value.get(field):
            yield invalid(name, "", "needs to be unset")


CHECKS: dict[str, Callable[[Json], Iterable[Cause]]] = {
    "core.v1.Event": lambda value: event(value, "involvedObject", "message", "reportingComponent"),
    "events.v1.Event": lambda value: event(value, "regarding", "note", "reportingController"),
}

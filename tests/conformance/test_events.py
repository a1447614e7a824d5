"""Events: two APIs, one store; their fields and selectors."""

import pytest

from .client import Json, Resource, refused
from .surroundings import Namespace

TIME = "2026-01-02T03:04:05Z"
MICRO = "2026-01-02T03:04:05.000000Z"


def event(name: str, ns: Namespace, **fields: object) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": ns.name},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "web", "namespace": ns.name, "uid": "u1"},
        "reason": "Started",
        "message": "It runs.",
        "type": "Normal",
        "source": {"component": "conformance"},
        "firstTimestamp": TIME,
        "lastTimestamp": TIME,
        "count": 1,
    } | fields


@pytest.fixture
def events(ns: Namespace) -> Resource:
    return ns("events")


def test_an_event_is_kept(events: Resource, ns: Namespace) -> None:
    """All fields come back; the new API's are there, empty."""
    made = events.create(event("one", ns))
    for field in ("involvedObject", "reason", "message", "type", "source", "firstTimestamp", "lastTimestamp", "count"):
        assert made[field] == event("one", ns)[field]
    assert made["eventTime"] is None
    assert (made["reportingComponent"], made["reportingInstance"]) == ("", "")


def test_both_apis_show_the_same(events: Resource, ns: Namespace) -> None:
    """An event of the core group is read in events.k8s.io with its new field names, and the other way round."""
    uid = events.create(event("one", ns))["metadata"]["uid"]
    new = ns("events.k8s.io/v1/events").get("one")
    assert new["metadata"]["uid"] == uid
    assert new["apiVersion"] == "events.k8s.io/v1"
    assert (new["note"], new["deprecatedCount"]) == ("It runs.", 1)
    assert new["regarding"]["name"] == "web"
    assert new["deprecatedSource"] == {"component": "conformance"}
    ns("events.k8s.io/v1/events").create(
        {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": "two", "namespace": ns.name},
            "regarding": {"kind": "Pod", "name": "web", "namespace": ns.name},
            "reason": "Stopped",
            "note": "It does not.",
            "type": "Warning",
            "action": "Stopping",
            "eventTime": MICRO,
            "reportingController": "example.com/conformance",
            "reportingInstance": "here",
        }
    )
    old = events.get("two")
    assert (old["message"], old["reason"], old["type"]) == ("It does not.", "Stopped", "Warning")
    assert (old["reportingComponent"], old["reportingInstance"]) == ("example.com/conformance", "here")
    assert old["eventTime"] == MICRO


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("involvedObject.name=web", ["a", "b"]),
        ("involvedObject.name=db", ["c"]),
        ("involvedObject.kind=Pod,involvedObject.name=web", ["a", "b"]),
        ("involvedObject.uid=u1", ["a", "b"]),
        ("type=Warning", ["b"]),
        ("type!=Normal", ["b"]),
        ("reason=Started", ["a", "c"]),
        ("source=conformance", ["a", "b", "c"]),
        ("reportingComponent=", ["a", "b", "c"]),
        ("metadata.name=a", ["a"]),
    ],
)
def test_events_are_found_by_field(events: Resource, ns: Namespace, selector: str, expected: list[str]) -> None:
    """kubectl describe finds events by what they are about."""
    events.create(event("a", ns))
    events.create(event("b", ns, type="Warning", reason="Failed"))
    involved = {"apiVersion": "v1", "kind": "Job", "name": "db", "namespace": ns.name, "uid": "u2"}
    events.create(event("c", ns, involvedObject=involved))
    assert events.names(fieldSelector=selector) == expected


def test_an_event_belongs_to_the_namespace_of_its_object(events: Resource, ns: Namespace) -> None:
    """involvedObject.namespace must be the event's."""
    with refused(422, "Invalid", "does not match event.namespace") as error:
        events.create(event("one", ns, involvedObject={"kind": "Pod", "name": "web", "namespace": "default"}))
    assert error.causes == [("involvedObject.namespace", "FieldValueInvalid")]


def test_new_events_are_strict(ns: Namespace) -> None:
    """events.k8s.io asks for what the old API did not."""
    with refused(422, "Invalid") as error:
        ns("events.k8s.io/v1/events").create(
            {
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": "one", "namespace": ns.name},
                "regarding": {"kind": "Pod", "name": "web", "namespace": ns.name},
                "eventTime": MICRO,
                "type": "Loud",
            }
        )
    assert {field for field, _ in error.causes} >= {
        "reportingController",
        "reportingInstance",
        "action",
        "reason",
        "type",
    }


def test_new_events_are_strict_in_the_old_api(events: Resource, ns: Namespace) -> None:
    """An eventTime makes an event of the core group a new one, with the same requirements."""
    body = event("one", ns, eventTime=MICRO)
    with refused(422, "Invalid") as error:
        events.create(body)
    assert {field for field, _ in error.causes} >= {"reportingComponent", "reportingInstance", "action"}


def test_counting_up(events: Resource, ns: Namespace) -> None:
    """A repeated event is patched: count and lastTimestamp."""
    events.create(event("one", ns))
    got = events.patch("one", {"count": 2, "lastTimestamp": "2026-01-02T03:05:05Z"}, "strategic")
    assert (got["count"], got["firstTimestamp"], got["lastTimestamp"]) == (2, TIME, "2026-01-02T03:05:05Z")


def test_events_are_watched(events: Resource, ns: Namespace) -> None:
    """A watch with a field selector sees the events of one object."""
    start = events.list()["metadata"]["resourceVersion"]
    events.create(event("other", ns, involvedObject={"kind": "Pod", "name": "db", "namespace": ns.name}))
    events.create(event("one", ns))
    with events.watch(resourceVersion=start, fieldSelector="involvedObject.name=web") as watch:
        assert watch.next().brief == ("ADDED", "one")

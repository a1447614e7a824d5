"""Watch: what is sent, from where, in which order, and how it ends."""

import pytest

from .client import Api, Event, Json, Refused, Resource, refused
from .objects import config_map, custom, lease, pod, secret
from .surroundings import Namespace


def version_of(thing: Json) -> int:
    return int(thing["metadata"]["resourceVersion"])


def now(resource: Resource) -> str:
    return str(resource.list()["metadata"]["resourceVersion"])


def test_each_change_is_an_event(maps: Resource) -> None:
    """A create, an update and a delete after the version given come as ADDED, MODIFIED and DELETED."""
    start = now(maps)
    made = maps.create(config_map("one", {"a": "1"}))
    changed = maps.replace(config_map("one", {"a": "2"}))
    maps.delete("one")
    with maps.watch(resourceVersion=start, fieldSelector="metadata.name=one") as watch:
        added, modified, deleted = watch.take(3)
    assert (added, modified) == (Event("ADDED", made), Event("MODIFIED", changed))
    assert deleted.type == "DELETED"
    assert deleted.object["data"] == {"a": "2"}
    assert version_of(deleted.object) > version_of(changed)


def test_events_come_as_they_happen(maps: Resource) -> None:
    """A watch that is open sees a later write."""
    with maps.watch(resourceVersion=now(maps)) as watch:
        for number in range(3):
            made = maps.create(config_map(f"n{number}"))
            assert watch.until(lambda event: event.name.startswith("n")).object == made


def test_versions_grow_along_a_watch(maps: Resource) -> None:
    """Events are in the order of the writes."""
    start = now(maps)
    for number in range(10):
        maps.create(config_map(f"n{number}"))
        maps.patch(f"n{number}", {"data": {"a": "1"}})
    with maps.watch(resourceVersion=start, labelSelector="!none") as watch:
        events = [event for event in watch.take(20) if event.name != "kube-root-ca.crt"]
    versions = [version_of(event.object) for event in events]
    assert versions == sorted(set(versions))


def test_an_unchanged_object_is_no_event(maps: Resource) -> None:
    """A write that changes nothing is not seen by watchers."""
    made = maps.create(config_map("one", {"a": "1"}))
    with maps.watch(resourceVersion=made["metadata"]["resourceVersion"], fieldSelector="metadata.name=one") as watch:
        maps.replace(made)
        maps.patch("one", {"data": {"a": "1"}})
        maps.patch("one", {"data": {"a": "2"}})
        assert watch.next().object["data"] == {"a": "2"}


@pytest.mark.parametrize("query", [{}, {"resourceVersion": "0"}], ids=["unset", "zero"])
def test_without_a_version_the_state_comes_first(maps: Resource, query: Json) -> None:
    """With no version, or 0, each existing object comes as ADDED, then the changes."""
    maps.list(resourceVersion=now(maps.api.resource("configmaps")))
    for name in ("a", "b"):
        maps.create(config_map(name, labels={"mine": "1"}))
    maps.list(resourceVersion=maps.get("b")["metadata"]["resourceVersion"])
    with maps.watch(labelSelector="mine", **query) as watch:
        first = watch.take(2)
        maps.delete("a")
        last = watch.next()
    assert sorted(event.brief for event in first) == [("ADDED", "a"), ("ADDED", "b")]
    assert last.brief == ("DELETED", "a")


def test_a_watch_of_all_namespaces(ns: Namespace, namespaces, api: Api) -> None:
    """The collection over all namespaces is watched the same way."""
    other = namespaces()
    start = now(api.resource("secrets"))
    for space in (ns, other):
        space("secrets").create(secret("here", type="example.com/all"))
    with api.resource("secrets").watch(resourceVersion=start, fieldSelector="type=example.com/all") as watch:
        found = [event.object["metadata"]["namespace"] for event in watch.take(2)]
    assert found == [ns.name, other.name]


def test_a_watch_of_one_object(maps: Resource) -> None:
    """A field selector on the name watches one object."""
    made = maps.create(config_map("one"))
    query = {"resourceVersion": made["metadata"]["resourceVersion"], "fieldSelector": "metadata.name=one"}
    with maps.watch(**query) as watch:
        maps.create(config_map("two"))
        changed = maps.patch("one", {"data": {"a": "1"}})
        assert watch.next() == Event("MODIFIED", changed)


def test_the_old_watch_paths(maps: Resource, ns: Namespace) -> None:
    """`/api/v1/watch/namespaces/NS/RESOURCE` and `.../NAME` are watches too."""
    start = now(maps)
    made = maps.create(config_map("one"))
    root = f"/api/v1/watch/namespaces/{ns.name}/configmaps"
    for path in (root, f"{root}/one"):
        with maps.api.watch(path, resourceVersion=start) as watch:
            assert watch.until(lambda event: event.name == "one") == Event("ADDED", made)


# Selectors


def test_an_object_that_comes_to_match_is_added(maps: Resource) -> None:
    """Under a label selector: a change into it is ADDED, within it MODIFIED, out of it DELETED; outside, nothing."""
    start = now(maps)
    maps.create(config_map("one", {"step": "0"}))
    maps.patch("one", {"data": {"step": "1"}})
    for labels, step in (({"on": "1"}, "2"), ({"on": "1"}, "3"), ({"on": None}, "4"), ({"on": "1"}, "5")):
        maps.patch("one", {"metadata": {"labels": labels}, "data": {"step": step}})
    maps.delete("one")
    with maps.watch(resourceVersion=start, labelSelector="on=1") as watch:
        events = watch.take(5)
    steps = [(event.type, event.object["data"]["step"]) for event in events]
    assert [kind for kind, _ in steps] == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]
    assert [step for kind, step in steps if kind != "DELETED"] == ["2", "3", "5"]


def test_the_version_of_an_object_that_left_is_that_of_the_change(maps: Resource) -> None:
    """A DELETED by selector carries the version of the write that took it out, so that a watch can go on from it."""
    maps.create(config_map("one", labels={"on": "1"}))
    start = now(maps)
    left = maps.patch("one", {"metadata": {"labels": {"on": None}}})
    with maps.watch(resourceVersion=start, labelSelector="on=1") as watch:
        event = watch.next()
    assert event.brief == ("DELETED", "one")
    assert version_of(event.object) == version_of(left)
    assert event.object["metadata"]["labels"] == {"on": "1"}


def test_a_field_selector_moves_objects_too(pods: Resource) -> None:
    """A Pod that gets another phase leaves a watch of the old phase."""
    pods.create(pod("one", schedulerName="none"))
    start = now(pods)
    pods.patch("one", {"status": {"phase": "Running"}}, subresource="status")
    with pods.watch(resourceVersion=start, fieldSelector="status.phase=Pending") as watch:
        assert watch.next().brief == ("DELETED", "one")
    with pods.watch(resourceVersion=start, fieldSelector="status.phase=Running") as watch:
        assert watch.next().brief == ("ADDED", "one")


def test_a_bad_selector_is_refused_at_once(maps: Resource) -> None:
    """A watch that cannot be is a Status, not a stream."""
    with refused(400, "BadRequest"), maps.watch(labelSelector="a in x"):
        pass
    with refused(400, "BadRequest", "data.a"), maps.watch(fieldSelector="data.a=1"):
        pass


# Initial events and bookmarks


def is_end_of_initial_events(event: Event) -> bool:
    annotations = event.object["metadata"].get("annotations", {})
    return event.type == "BOOKMARK" and annotations.get("k8s.io/initial-events-end") == "true"


WATCH_LIST = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}


def test_initial_events(maps: Resource) -> None:
    """sendInitialEvents: the state as ADDED, a bookmark that says so with the version, then the changes."""
    for name in ("b", "a", "c"):
        maps.create(config_map(name, labels={"mine": "1"}))
    newest = maps.get("c")
    with maps.watch(labelSelector="mine", **WATCH_LIST) as watch:
        added = watch.take(3)
        end = watch.next()
        deleted_at = maps.delete("b")
        last = watch.until(lambda event: event.type != "BOOKMARK")
    assert sorted(event.brief for event in added) == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")]
    assert is_end_of_initial_events(end)
    assert version_of(end.object) >= version_of(newest)
    assert (end.object["kind"], end.object["apiVersion"]) == ("ConfigMap", "v1")
    assert last.brief == ("DELETED", "b")
    assert deleted_at["status"] == "Success"


def test_initial_events_of_nothing(ns: Namespace) -> None:
    """An empty state is the bookmark alone."""
    with ns("coordination.k8s.io/v1/leases").watch(**WATCH_LIST) as watch:
        assert is_end_of_initial_events(watch.next())


@pytest.mark.parametrize("version", ["", "0", "first"])
def test_initial_events_at_a_version(maps: Resource, version: str) -> None:
    """With a version, the state is at least as new; the bookmark follows it."""
    made = maps.create(config_map("one", labels={"mine": "1"}))
    wanted = made["metadata"]["resourceVersion"] if version == "first" else version
    with maps.watch(labelSelector="mine", resourceVersion=wanted, **WATCH_LIST) as watch:
        end = watch.until(is_end_of_initial_events)
    assert version_of(end.object) >= (version_of(made) if version == "first" else 0)


def test_no_initial_events(maps: Resource) -> None:
    """sendInitialEvents=false starts with the changes after now."""
    maps.create(config_map("old", labels={"mine": "1"}))
    query = {"sendInitialEvents": "false", "resourceVersionMatch": "NotOlderThan"}
    with maps.watch(labelSelector="mine", **query) as watch:
        maps.create(config_map("new", labels={"mine": "1"}))
        assert watch.next().brief == ("ADDED", "new")


@pytest.mark.parametrize(
    "query",
    [
        {"sendInitialEvents": "true"},
        {"sendInitialEvents": "true", "resourceVersionMatch": "Exact"},
        {"resourceVersionMatch": "NotOlderThan"},
    ],
    ids=["no-match", "exact", "match-alone"],
)
def test_watch_rules_that_make_no_sense(maps: Resource, query: Json) -> None:
    """sendInitialEvents and resourceVersionMatch=NotOlderThan go together."""
    with refused(422, "Invalid"), maps.watch(**query):
        pass


def test_a_watch_continues_after_its_bookmark(maps: Resource) -> None:
    """A watch from a bookmark's version repeats nothing and misses nothing."""
    maps.create(config_map("one", labels={"mine": "1"}))
    with maps.watch(labelSelector="mine", **WATCH_LIST) as watch:
        version = watch.until(is_end_of_initial_events).object["metadata"]["resourceVersion"]
    maps.create(config_map("two", labels={"mine": "1"}))
    with maps.watch(labelSelector="mine", resourceVersion=version) as watch:
        assert watch.next().brief == ("ADDED", "two")


def test_initial_events_of_a_custom_resource(widgets: Resource, widgets_group: str) -> None:
    """Custom resources are watched the same way."""
    widgets.create(custom(widgets_group, "one"))
    with widgets.watch(**WATCH_LIST) as watch:
        assert watch.next().brief == ("ADDED", "one")
        end = watch.next()
    assert is_end_of_initial_events(end)
    assert (end.object["kind"], end.object["apiVersion"]) == ("Widget", f"{widgets_group}/v1")


# How it ends


def test_a_watch_ends_after_its_timeout(ns: Namespace) -> None:
    """timeoutSeconds bounds the watch; it ends as a stream ends, with no error event."""
    leases = ns("coordination.k8s.io/v1/leases")
    leases.create(lease("one"))
    with leases.watch(timeoutSeconds=1) as watch:
        assert [event.brief for event in watch.rest()] == [("ADDED", "one")]


def test_a_bookmark_comes_before_the_end(ns: Namespace) -> None:
    """A quiet watch that allows bookmarks gets one before its end: kind and version alone, the version up to date.

    From it the client goes on when the watch has ended, however much has been written elsewhere meanwhile.
    """
    leases = ns("coordination.k8s.io/v1/leases")
    start = now(leases)
    elsewhere = ns("configmaps").create(config_map("one"))
    with leases.watch(timeoutSeconds=4, allowWatchBookmarks="true", resourceVersion=start) as watch:
        event = watch.next()
    assert event.type == "BOOKMARK"
    assert (event.object["kind"], event.object["apiVersion"]) == ("Lease", "coordination.k8s.io/v1")
    assert event.object["metadata"].keys() == {"resourceVersion"}
    assert version_of(event.object) >= version_of(elsewhere)


def test_a_version_that_is_not_reached(maps: Resource) -> None:
    """A watch from a version of the future invents no events."""
    maps.create(config_map("one"))
    version = str(int(now(maps)) + 1_000_000)
    with maps.watch(resourceVersion=version, timeoutSeconds=1) as watch:
        assert [event.type for event in watch.rest() if event.type != "ERROR"] == []


def test_a_version_that_is_long_gone(maps: Resource) -> None:
    """A watch from the first version there ever was either tells all that happened since, or says that it expired."""
    maps.create(config_map("one", labels={"mine": "1"}))
    with maps.watch(resourceVersion="1", labelSelector="mine") as watch:
        event = watch.next()
    if event.type == "ERROR":
        assert (event.object["kind"], event.object["reason"], event.object["code"]) == ("Status", "Expired", 410)
        assert "too old resource version" in event.object["message"]
    else:
        assert event.brief == ("ADDED", "one")


@pytest.mark.parametrize("version", ["x", "-5"])
def test_a_version_that_is_none(maps: Resource, version: str) -> None:
    """A version must be the server's notation: refused at once (400, or 500 from Kubernetes' own watch cache)."""
    with pytest.raises(Refused) as error, maps.watch(resourceVersion=version):
        pass
    assert error.value.code in {400, 500}


def test_the_media_type_of_a_watch(maps: Resource) -> None:
    """A JSON watch is a stream of JSON objects of type application/json, sent as they come."""
    with maps.watch(resourceVersion=now(maps)) as watch:
        assert watch.response.headers["content-type"] == "application/json"
        assert watch.response.headers["transfer-encoding"] == "chunked"


def test_metadata_only_watch(maps: Resource) -> None:
    """A watch may ask for PartialObjectMetadata."""
    start = now(maps)
    maps.create(config_map("one", {"a": "1"}))
    accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    query = {"resourceVersion": start, "fieldSelector": "metadata.name=one"}
    with maps.api.watch(maps.path, headers={"Accept": accept}, **query) as watch:
        event = watch.next()
    assert (event.type, event.object["kind"], event.object["metadata"]["name"]) == (
        "ADDED",
        "PartialObjectMetadata",
        "one",
    )
    assert "data" not in event.object


def test_dropping_a_watch_frees_it(maps: Resource) -> None:
    """Many watches opened and dropped, one after the other, leave the server able to serve another."""
    start = now(maps)
    maps.create(config_map("one"))
    for _ in range(50):
        with maps.watch(resourceVersion=start, fieldSelector="metadata.name=one") as watch:
            assert watch.next().brief == ("ADDED", "one")

"""Many clients at once: no update is lost, watchers see each change once and in order, list + watch is the state."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from .client import Api, Json, Refused, Resource
from .objects import config_map, custom, secret
from .surroundings import Namespace

WRITERS = 8


def together(*jobs: Callable[[], object]) -> list[object]:
    """Run the jobs at the same time, each from its own thread; their results in order."""
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[[], object]) -> object:
        barrier.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


@pytest.mark.parametrize("kind", ["configmap", "custom"])
def test_no_increment_is_lost(maps: Resource, widgets: Resource, widgets_group: str, kind: str) -> None:
    """N writers read, add one and update by resourceVersion until accepted: the sum is exact, conflicts are 409."""
    rounds = 10
    resource = maps if kind == "configmap" else widgets
    field = "data" if kind == "configmap" else "spec"
    start = config_map("counter", {"n": "0"}) if kind == "configmap" else custom(widgets_group, "counter", {"n": "0"})
    resource.create(start)

    def increment() -> None:
        done = 0
        while done < rounds:
            seen = resource.get("counter")
            try:
                resource.replace(seen | {field: {"n": str(int(seen[field]["n"]) + 1)}})
                done += 1
            except Refused as error:
                if error.code != 409:
                    raise

    together(*[increment] * WRITERS)
    assert resource.get("counter")[field] == {"n": str(WRITERS * rounds)}


def test_patches_of_different_fields_all_land(maps: Resource) -> None:
    """Merge patches need no version: each writer's field is there at the end."""
    maps.create(config_map("shared", {}))

    def patch(writer: int) -> Callable[[], object]:
        return lambda: [maps.patch("shared", {"data": {f"w{writer}-{n}": "1"}}) for n in range(5)]

    together(*[patch(writer) for writer in range(WRITERS)])
    assert len(maps.get("shared")["data"]) == WRITERS * 5


def test_applies_of_different_fields_all_land(maps: Resource) -> None:
    """Appliers of different fields do not conflict, and one of them creates the object."""

    def apply(writer: int) -> Callable[[], object]:
        return lambda: maps.apply(config_map("shared", {f"w{writer}": "1"}), f"writer-{writer}")

    together(*[apply(writer) for writer in range(WRITERS)])
    got = maps.get("shared")
    assert got["data"] == {f"w{writer}": "1" for writer in range(WRITERS)}
    assert len(got["metadata"]["managedFields"]) == WRITERS


def test_one_of_many_creates(maps: Resource) -> None:
    """Of many who create the same name one succeeds, the others hear that it exists."""

    def create() -> int:
        try:
            maps.create(config_map("prize"))
        except Refused as error:
            return error.code
        return 201

    assert sorted(map(int, together(*[create] * WRITERS))) == [201] + [409] * (WRITERS - 1)


def test_one_of_many_deletes(maps: Resource) -> None:
    """Of many who delete one object one succeeds, the others do not find it."""
    maps.create(config_map("prize"))

    def delete() -> int:
        try:
            maps.delete("prize")
        except Refused as error:
            return error.code
        return 200

    codes = sorted(map(int, together(*[delete] * WRITERS)))
    assert codes[0] == 200
    assert set(codes[1:]) <= {404, 409}
    assert codes.count(200) == 1


def churn(resource: Resource, writer: int, rounds: int) -> None:
    """Creates, changes and deletes of objects that belong to one writer, never two writes of the same content."""
    for number in range(rounds):
        name = f"w{writer}-{number % 3}"
        try:
            resource.create(secret(name, metadata={"name": name, "labels": {"step": str(number)}}))
        except Refused as error:
            if error.code != 409:
                raise
            resource.patch(name, {"metadata": {"labels": {"step": f"p{number}"}}})
            if number % 4 == 3:
                resource.delete(name)


def version_of(thing: Json) -> int:
    return int(thing["metadata"]["resourceVersion"])


def watch_until_marker(resource: Resource, start: str, seen: list[tuple[str, Json]]) -> None:
    with resource.watch(resourceVersion=start) as watch:
        for event in watch:
            if event.name == "marker":
                return
            seen.append((event.type, event.object))


def test_watchers_agree_under_load(ns: Namespace) -> None:
    """Watches opened before the writes see the same events, once, in the order of versions, and end in the state."""
    resource = ns("secrets")
    start = resource.list()["metadata"]["resourceVersion"]
    logs: list[list[tuple[str, Json]]] = [[] for _ in range(4)]
    watchers = [threading.Thread(target=watch_until_marker, args=(resource, start, log)) for log in logs]
    for watcher in watchers:
        watcher.start()
    together(*[lambda writer=writer: churn(resource, writer, 15) for writer in range(4)])
    resource.create(secret("marker"))
    for watcher in watchers:
        watcher.join()
    briefs = [[(kind, version_of(thing)) for kind, thing in log] for log in logs]
    assert briefs[1:] == briefs[:1] * 3
    versions = [version for _, version in briefs[0]]
    assert versions == sorted(set(versions))
    state = {item["metadata"]["name"]: item for item in resource.list()["items"]}
    state.pop("marker")
    assert replayed({}, logs[0]).keys() == state.keys()


def replayed(state: dict[str, Json], events: list[tuple[str, Json]]) -> dict[str, Json]:
    """The state after the events, each of which must make sense where it comes."""
    for kind, thing in events:
        name = thing["metadata"]["name"]
        assert (kind == "ADDED") == (name not in state), (kind, name)
        if kind == "DELETED":
            del state[name]
        else:
            state[name] = thing
    return state


def test_list_then_watch_is_the_state(ns: Namespace) -> None:
    """A list taken in the middle of writes, and the watch from its version, make up the state at the end."""
    resource = ns("secrets")
    taken = threading.Event()
    seen: list[tuple[str, Json]] = []
    first: dict[str, Json] = {}

    def reflect() -> None:
        answer = resource.list(limit=2)
        items = list(answer["items"])
        while token := answer["metadata"].get("continue"):
            answer = resource.list(limit=2, **{"continue": token})
            items += answer["items"]
        first.update({item["metadata"]["name"]: item for item in items})
        taken.set()
        watch_until_marker(resource, answer["metadata"]["resourceVersion"], seen)

    for number in range(7):
        resource.create(secret(f"early-{number}"))
    reflector = threading.Thread(target=reflect)
    writers = [threading.Thread(target=churn, args=(resource, writer, 20)) for writer in range(3)]
    for thread in [*writers[:1], reflector, *writers[1:]]:
        thread.start()
    for writer in writers:
        writer.join()
    taken.wait()
    resource.create(secret("marker"))
    reflector.join()
    state = {item["metadata"]["name"]: version_of(item) for item in resource.list()["items"]}
    state.pop("marker")
    assert {name: version_of(thing) for name, thing in replayed(first, seen).items()} == state


def test_each_transition_of_a_counter_is_seen(maps: Resource) -> None:
    """A watcher of one object sees every value in order: no change is merged away."""
    start = maps.create(config_map("counter", {"n": "0"}))["metadata"]["resourceVersion"]
    values: list[str] = []

    def watch() -> None:
        with maps.watch(resourceVersion=start, fieldSelector="metadata.name=counter") as events:
            values.extend(event.object["data"]["n"] for event in events.take(40))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(1, 41):
        maps.patch("counter", {"data": {"n": str(number)}})
    watcher.join()
    assert values == [str(number) for number in range(1, 41)]


def test_many_watchers(maps: Resource, api: Api) -> None:
    """A hundred watches at once all see the next change."""
    start = maps.create(config_map("one", {"n": "0"}))["metadata"]["resourceVersion"]
    count = 100
    ready = threading.Barrier(count + 1)
    seen: list[str] = []

    def watch() -> None:
        with maps.watch(resourceVersion=start, fieldSelector="metadata.name=one") as events:
            ready.wait()
            seen.append(events.next().object["data"]["n"])

    threads = [threading.Thread(target=watch) for _ in range(count)]
    for thread in threads:
        thread.start()
    ready.wait()
    maps.patch("one", {"data": {"n": "1"}})
    for thread in threads:
        thread.join()
    assert seen == ["1"] * count


def test_generated_names_do_not_collide(maps: Resource) -> None:
    """Names generated at the same time are different."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "run-", "labels": {"mine": "1"}}}
    together(*[lambda: [maps.create(body) for _ in range(10)]] * WRITERS)
    assert len(set(maps.names(labelSelector="mine"))) == WRITERS * 10

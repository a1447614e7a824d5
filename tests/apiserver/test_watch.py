"""Watches: what they tell, when they end, what they cost. Time is virtual where it matters."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mizzen.local.apiserver.catalog import Catalog, Served
from mizzen.local.apiserver.errors import BadRequest, Expired, Invalid
from mizzen.local.apiserver.http.negotiation import Representation
from mizzen.local.apiserver.http.rendering import WholeObjects, watch_encoder
from mizzen.local.apiserver.request import Query, Target
from mizzen.local.apiserver.schema.builtin import BUILTIN_TYPES
from mizzen.local.apiserver.store import Event, Limits, Record, Store
from mizzen.local.apiserver.verbs.context import Context, StoreReader
from mizzen.local.apiserver.verbs.watching import BOOKMARK_S, Frames, Watch, watch

from .conftest import Api, config_map, definition, pod

MAPS = ("", "configmaps")
PATH = "/api/v1/namespaces/default/configmaps"
Json = dict[str, Any]


class Bench:
    """A store and what a watch needs around it."""

    def __init__(self, folder: Path, limits: Limits = Limits()) -> None:
        self.store = Store(folder / "store.db", limits)
        catalog = Catalog(BUILTIN_TYPES)
        reader = StoreReader(self.store)
        self.context = Context(self.store, catalog, reader, lambda *_: None, (), lambda: None, lambda: "", lambda: "")
        served = catalog.find("", "v1", "configmaps")
        assert served is not None
        self.served: Served = served
        self.frames = Frames()

    async def put(self, name: str, value: str = "", **labels: str) -> Record:
        obj = config_map(name, {"v": value}, namespace="default", uid=name, labels=labels)
        head = self.store.head(MAPS, "default", name)
        if head is None:
            return await self.store.create(MAPS, "default", name, obj)
        return await self.store.update(MAPS, obj, head)

    async def delete(self, name: str) -> None:
        head = self.store.head(MAPS, "default", name)
        assert head is not None
        await self.store.delete(MAPS, head.object(), head)

    def watch(self, query: str = "", form: Representation = Representation("application/json")) -> Watch:
        parsed = Query(query)
        encoder = watch_encoder(self.served, form, parsed, lambda: None)
        target = Target("", "v1", "configmaps", "default")
        return watch(self.context, self.served, target, parsed, encoder, self.frames)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    await made.store.close()


def events_of(chunk: bytes) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in chunk.splitlines()]
    return [(line["type"], line["object"].get("metadata", {}).get("name", "")) for line in lines]


async def all_of(chunks: AsyncIterator[bytes]) -> list[tuple[str, str]]:
    return [event async for chunk in chunks for event in events_of(chunk)]


async def test_what_is_there_comes_first(bench: Bench) -> None:
    """Without a resourceVersion, or with 0: the objects as ADDED, then what happens."""
    await bench.put("a")
    await bench.put("b")
    for query in ("", "resourceVersion=0"):
        chunks = bench.watch(query).chunks()
        assert events_of(await anext(chunks)) == [("ADDED", "a"), ("ADDED", "b")]
        await bench.put("a", query or "x")
        assert events_of(await anext(chunks)) == [("MODIFIED", "a")]
        await chunks.aclose()
    assert bench.store.statistics().subscriptions == 0


async def test_from_a_revision_on(bench: Bench) -> None:
    first = await bench.put("a")
    await bench.put("a", "2")
    await bench.delete("a")
    await bench.put("a", "3")
    chunks = bench.watch(f"resourceVersion={first.revision}").chunks()
    assert events_of(await anext(chunks)) == [("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "a")]
    await chunks.aclose()


async def test_what_comes_together_goes_out_together(bench: Bench) -> None:
    """Changes that wait for a client are one write to its connection."""
    chunks = bench.watch().chunks()
    reading = asyncio.create_task(anext(chunks))
    await asyncio.gather(*(bench.put(f"x{i}") for i in range(20)))
    assert len(events_of(await reading)) == 20
    await chunks.aclose()


async def test_a_selector_makes_its_own_events(bench: Bench) -> None:
    """Into the selection is ADDED, out of it DELETED at the revision of the change, outside nothing."""
    chunks = bench.watch("labelSelector=on%3Dyes&resourceVersion=0").chunks()
    steps = [("no", "1"), ("yes", "2"), ("yes", "3"), ("no", "4"), ("no", "5"), ("yes", "6")]
    records = [await bench.put("a", value, on=on) for on, value in steps]
    await bench.delete("a")
    await bench.put("b", "7", on="no")
    lines = [json.loads(line) for line in (await anext(chunks)).splitlines()]
    assert [(line["type"], line["object"]["data"]["v"]) for line in lines] == [
        ("ADDED", "2"),
        ("MODIFIED", "3"),
        ("DELETED", "3"),
        ("ADDED", "6"),
        ("DELETED", "6"),
    ]
    assert lines[2]["object"]["metadata"]["resourceVersion"] == str(records[3].revision)
    await chunks.aclose()


async def test_initial_events_and_their_end(bench: Bench) -> None:
    """sendInitialEvents: the objects, then a bookmark that says so and at which revision."""
    await bench.put("a")
    query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    chunks = bench.watch(query).chunks()
    assert events_of(await anext(chunks)) == [("ADDED", "a")]
    mark = json.loads(await anext(chunks))
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["metadata"] == {
        "resourceVersion": str(bench.store.revision),
        "annotations": {"k8s.io/initial-events-end": "true"},
    }
    await chunks.aclose()


@pytest.mark.looptime
async def test_bookmarks_and_the_end_of_a_watch(bench: Bench, looptime: Any) -> None:
    """A bookmark a minute, one more at the end, which comes exactly when it was asked for."""
    kinds = await all_of(bench.watch("allowWatchBookmarks=true&timeoutSeconds=150").chunks())
    assert [kind for kind, _ in kinds] == ["BOOKMARK", "BOOKMARK", "BOOKMARK"]
    assert looptime == 150
    assert BOOKMARK_S == 60
    assert await all_of(bench.watch("timeoutSeconds=30").chunks()) == []
    assert looptime == 180


@pytest.mark.looptime
async def test_bookmarks_say_how_far_everything_is(bench: Bench) -> None:
    """A watch of a quiet resource learns of revisions of others: it need not start over after a compaction."""
    chunks = bench.watch("allowWatchBookmarks=true&timeoutSeconds=90").chunks()
    node = {"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n"}}
    bench.store._publish(("", "nodes"), Event("ADDED", Record("", "n", 77, json.dumps(node).encode()), None))
    mark = json.loads(await anext(chunks))
    assert mark["object"]["metadata"]["resourceVersion"] == "77"
    await chunks.aclose()


@pytest.mark.looptime
async def test_a_watch_that_names_no_end_has_one(bench: Bench, looptime: Any) -> None:
    await all_of(bench.watch().chunks())
    assert 1800 <= looptime <= 3600


async def test_a_slow_watch_is_cut_and_costs_nothing(tmp_path: Path) -> None:
    """A client that does not read holds no events; when those it needs are gone it is told 410 and let go."""
    bench = Bench(tmp_path, Limits(events=10))
    chunks = bench.watch("resourceVersion=0").chunks()
    reading = asyncio.create_task(anext(chunks))
    await bench.put("a")
    assert events_of(await reading) == [("ADDED", "a")]
    for value in range(30):
        await bench.put("a", str(value))
    line = json.loads(await anext(chunks))
    assert (line["type"], line["object"]["code"], line["object"]["reason"]) == ("ERROR", 410, "Expired")
    with pytest.raises(StopAsyncIteration):
        await anext(chunks)
    assert bench.store.statistics().subscriptions == 0
    await bench.store.close()


async def test_a_revision_that_is_gone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Limits(events=3))
    for value in range(10):
        await bench.put("a", str(value))
    with pytest.raises(Expired, match=r"too old resource version: 2 \(7\)"):
        bench.watch("resourceVersion=2")
    await bench.store.close()


async def test_an_event_is_encoded_once_for_all_who_show_it_the_same_way(bench: Bench) -> None:
    encoded: list[str] = []
    original = WholeObjects.__call__

    def counted(self: WholeObjects, kind: str, record: Record) -> bytes:
        encoded.append(record.name)
        return original(self, kind, record)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(WholeObjects, "__call__", counted)
        watches = [bench.watch("resourceVersion=0").chunks() for _ in range(100)]
        reading = [asyncio.create_task(anext(chunks)) for chunks in watches]
        await bench.put("a")
        answers = set(await asyncio.gather(*reading))
    assert (len(answers), encoded) == (1, ["a"])
    for chunks in watches:
        await chunks.aclose()


async def test_a_stop_from_outside_ends_it(bench: Bench) -> None:
    running = bench.watch("resourceVersion=0&allowWatchBookmarks=true")
    ending = asyncio.create_task(all_of(running.chunks()))
    await asyncio.sleep(0)
    running.stop()
    assert await ending == []


@pytest.mark.parametrize(
    "query",
    [
        "sendInitialEvents=true",
        "resourceVersionMatch=NotOlderThan",
        "sendInitialEvents=true&resourceVersionMatch=Exact",
    ],
)
async def test_options_that_do_not_go_together(bench: Bench, query: str) -> None:
    with pytest.raises(Invalid, match="ListOptions"):
        bench.watch(query)


async def test_a_revision_that_is_no_number(bench: Bench) -> None:
    with pytest.raises(BadRequest):
        bench.watch("resourceVersion=abc")


async def test_table_rows_name_their_columns_once(bench: Bench) -> None:
    """As kubectl reads them: columns with the first event, none after; cells and the object's metadata in each."""
    await bench.put("a")
    parsed = Query("resourceVersion=0")
    form = Representation("application/json", "Table", "meta.k8s.io/v1")
    encoder = watch_encoder(bench.served, form, parsed, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    running = watch(bench.context, bench.served, Target("", "v1", "configmaps", ""), parsed, encoder, bench.frames)
    chunks = running.chunks()
    first = json.loads(await anext(chunks))
    await bench.put("a", "2")
    second = json.loads(await anext(chunks))
    assert [column["name"] for column in first["object"]["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert not second["object"]["columnDefinitions"]
    for line in (first, second):
        assert line["object"]["rows"][0]["cells"][:2] == ["a", 1]
    await chunks.aclose()


# Over the network.


async def test_over_the_network(api: Api) -> None:
    """A watch sees another client's writes, in order, whole."""
    async with api.watch(PATH, fieldSelector="metadata.name=a") as events:
        made = await api.create(PATH, config_map("a"))
        await api.create(PATH, config_map("b"))
        changed = await api.merge(f"{PATH}/a", {"data": {"x": "y"}})
        await api.delete(f"{PATH}/a")
        got = [await anext(events) for _ in range(3)]
    assert [event["type"] for event in got] == ["ADDED", "MODIFIED", "DELETED"]
    assert [event["object"] for event in got[:2]] == [made, changed]


async def test_a_client_that_goes_leaves_nothing_behind(api: Api) -> None:
    before = api.server.statistics().subscriptions
    async with api.watch(PATH) as events:
        await anext(events)
        assert api.server.statistics().subscriptions == before + 1
    await _until(lambda: api.server.statistics().subscriptions == before)


async def _until(holds: Any) -> None:
    """Let the loop turn until something holds."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0)


async def test_a_field_of_the_status_can_be_selected_by(api: Api) -> None:
    """A Pod leaves `status.phase=Pending` when its kubelet says that it runs."""
    pods = "/api/v1/namespaces/default/pods"
    async with api.watch(pods, fieldSelector="status.phase=Pending,spec.nodeName=") as events:
        await api.create(pods, pod("p"))
        await api.merge(f"{pods}/p/status", {"status": {"phase": "Running"}})
        assert [(await anext(events))["type"] for _ in range(2)] == ["ADDED", "DELETED"]


async def test_watches_of_a_kind_end_when_its_definition_changes(api: Api) -> None:
    """The client starts again and sees objects as they are now; other watches go on."""
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    widgets = "/apis/example.com/v1/namespaces/default/widgets"
    made = await api.create(definitions, definition())
    start = made["metadata"]["resourceVersion"]
    async with api.watch(widgets, resourceVersion=start) as events, api.watch(PATH, resourceVersion=start) as others:
        await api.merge(f"{definitions}/widgets.example.com", {"spec": {"names": {"shortNames": ["wd"]}}})
        assert [event async for event in events] == []
        await api.create(PATH, config_map("a"))
        assert (await anext(others))["type"] == "ADDED"

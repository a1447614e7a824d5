"""The store against a model: what is acknowledged is there, in order, seen by watches, and there again after a restart."""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.local.apiserver.errors import AlreadyExists, Conflict, Expired, InsufficientStorage, NotFound
from mizzen.local.apiserver.store import ADDED, DELETED, MODIFIED, Event, Limits, Store
from mizzen.local.apiserver.store.collection import between

PODS = ("", "pods")
NODES = ("", "nodes")
Json = dict[str, Any]


def thing(name: str, value: int = 0, **labels: str) -> Json:
    return {"kind": "Thing", "apiVersion": "v1", "metadata": {"name": name, "labels": labels}, "value": value}


def with_store(body: Callable[[Store, Path], Coroutine[Any, Any, None]], limits: Limits = Limits()) -> None:
    """Run a test on a store of its own."""

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "store.db"
            store = Store(path, limits)
            try:
                await body(store, path)
            finally:
                await store.close()

    asyncio.run(run())


def state(store: Store) -> dict[tuple[str, str], Json]:
    return {(record.namespace, record.name): record.object() for record in store.records(PODS)}


# Writing.


def test_a_write_is_seen_when_it_is_durable_and_not_before() -> None:
    async def body(store: Store, _: Path) -> None:
        written = store.create(PODS, "a", "x", thing("x"))
        assert store.get(PODS, "a", "x") is None
        head = store.head(PODS, "a", "x")
        assert head is not None
        record = await written
        assert store.get(PODS, "a", "x") is record is head
        assert record.object()["metadata"]["resourceVersion"] == str(store.revision) == "1"

    with_store(body)


def test_what_is_written_in_one_turn_is_one_transaction() -> None:
    async def body(store: Store, _: Path) -> None:
        await asyncio.gather(*(store.create(PODS, "a", f"x{i}", thing(f"x{i}")) for i in range(50)))
        assert (store.statistics().writes, store.statistics().commits) == (50, 1)

    with_store(body)


def test_writes_build_on_what_is_still_on_its_way() -> None:
    """A chain of writes to one name, submitted without waiting, ends as if each had been waited for."""

    async def body(store: Store, _: Path) -> None:
        futures = [store.create(PODS, "a", "x", thing("x", 1))]
        for value in (2, 3):
            head = store.head(PODS, "a", "x")
            assert head is not None
            futures.append(store.update(PODS, thing("x", value), head))
        head = store.head(PODS, "a", "x")
        assert head is not None
        futures.append(store.delete(PODS, head.object(), head))
        assert store.head(PODS, "a", "x") is None
        futures.append(store.create(PODS, "a", "x", thing("x", 5)))
        await asyncio.gather(*futures)
        assert [event.type for event in store.collection(PODS).events] == [ADDED, MODIFIED, MODIFIED, DELETED, ADDED]
        assert state(store)["a", "x"]["value"] == 5

    with_store(body)


def test_what_a_write_expects_must_hold() -> None:
    async def body(store: Store, _: Path) -> None:
        first = await store.create(PODS, "a", "x", thing("x"))
        with pytest.raises(AlreadyExists, match='pods "x" already exists'):
            store.create(PODS, "a", "x", thing("x"))
        second = await store.update(PODS, thing("x", 1), first)
        with pytest.raises(Conflict, match="the object has been modified"):
            store.update(PODS, thing("x", 2), first)
        with pytest.raises(Conflict):
            store.delete(PODS, thing("x"), first)
        await store.delete(PODS, second.object(), second)
        with pytest.raises(NotFound, match='pods "x" not found'):
            store.update(PODS, thing("x", 2), second)

    with_store(body)


def test_a_full_disk_loses_nothing_and_says_so() -> None:
    """Writes that do not fit fail with 507 along with what was queued behind them; what was there stays; and when there
    is room again, writing goes on with revisions that were never given before."""

    async def body(store: Store, path: Path) -> None:
        kept = await store.create(PODS, "a", "kept", thing("kept"))
        database = store._database._connection
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        big = {**thing("big"), "data": "x" * 100_000}
        results = await asyncio.gather(
            store.create(PODS, "a", "big", big),
            store.create(PODS, "a", "small", thing("small")),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [InsufficientStorage, InsufficientStorage]
        assert isinstance(results[0], InsufficientStorage)
        assert (results[0].code, "nothing was changed" in results[0].message) == (507, True)
        assert store.head(PODS, "a", "big") is None
        assert list(state(store)) == [("a", "kept")]
        database.execute("PRAGMA max_page_count = 1000000")
        again = await store.create(PODS, "a", "again", thing("again"))
        assert again.revision > kept.revision + 2
        await store.close()
        reopened = Store(path)
        assert set(state(reopened)) == {("a", "kept"), ("a", "again")}
        await reopened.close()

    with_store(body)


async def test_a_closed_store_writes_no_more(tmp_path: Path) -> None:
    """A close waits for what was submitted, and refuses what comes after."""
    store = Store(tmp_path / "store.db")
    submitted = store.create(PODS, "a", "x", thing("x"))
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    with pytest.raises(Exception, match="the server is stopping"):
        store.create(PODS, "a", "y", thing("y"))
    await closing
    assert submitted.result().name == "x"


# Model: any sequence of writes, grouped into turns of the loop in any way.

names = st.sampled_from(["a", "b", "c"])
operations = st.lists(
    st.tuples(st.sampled_from(["put", "delete", "settle"]), names, names, st.integers(0, 9)), max_size=60
)


def replayed(events: list[Event], start: dict[tuple[str, str], Json] | None = None) -> dict[tuple[str, str], Json]:
    """What a watcher believes who saw these events."""
    known = dict(start or {})
    for event in events:
        name = (event.record.namespace, event.record.name)
        if event.type == DELETED:
            del known[name]
        else:
            assert (event.type == MODIFIED) is (name in known)
            known[name] = event.record.object()
    return known


@settings(max_examples=40, deadline=None)
@given(operations)
def test_any_sequence_of_writes(steps: list[tuple[str, str, str, int]]) -> None:
    """Memory, watchers, every earlier state that history reaches, and a reopened file agree with the model."""

    async def body(store: Store, path: Path) -> None:
        model: dict[tuple[str, str], int] = {}
        states: dict[int, dict[tuple[str, str], int]] = {0: {}}
        waiting: list[asyncio.Future[Any]] = []
        for step, namespace, name, value in steps:
            head = store.head(PODS, namespace, name)
            if step == "put":
                new = thing(name, value)
                write = store.create(PODS, namespace, name, new) if head is None else store.update(PODS, new, head)
                waiting.append(write)
                model[namespace, name] = value
            elif step == "delete" and head is not None:
                waiting.append(store.delete(PODS, head.object(), head))
                del model[namespace, name]
            elif step == "settle":
                await asyncio.gather(*waiting)
                waiting.clear()
            states[store._given] = dict(model)
        await asyncio.gather(*waiting)
        collection = store.collection(PODS)
        assert {name: obj["value"] for name, obj in state(store).items()} == model
        assert collection.names == sorted(model)
        assert replayed(collection.events) == state(store)
        for revision, expected in states.items():
            records, order = collection.at(revision)
            assert {name: record.object()["value"] for name, record in records.items()} == expected
            assert list(order) == sorted(expected)
            later = collection.subscribe(revision).take(1000)
            assert replayed(later, {n: r.object() for n, r in records.items()}) == state(store)
        await store.close()
        reopened = Store(path)
        assert state(reopened) == replayed(collection.events)
        assert [(e.type, e.record.revision) for e in reopened.collection(PODS).events] == [
            (e.type, e.record.revision) for e in collection.events
        ]
        assert reopened._given == store._given
        await reopened.close()

    with_store(body)


@settings(max_examples=25, deadline=None)
@given(operations, st.integers(0, 8))
def test_compaction_forgets_exactly_what_nobody_can_ask_for(steps: list[tuple[str, str, str, int]], kept: int) -> None:
    """With a bounded history: the newest events only, older revisions expired, the file no longer than it must be, and
    after a reopen the same objects, the same events, the same horizon."""

    async def body(store: Store, path: Path) -> None:
        for step, namespace, name, value in steps:
            head = store.head(PODS, namespace, name)
            if step == "delete" and head is not None:
                await store.delete(PODS, head.object(), head)
            elif step == "put" and head is None:
                await store.create(PODS, namespace, name, thing(name, value))
            elif step == "put" and head is not None:
                await store.update(PODS, thing(name, value), head)
        collection = store.collection(PODS)
        assert len(collection.events) <= kept
        if collection.events:
            oldest = collection.events[0].record.revision
            assert collection.subscribe(oldest - 1).position == collection.first or oldest == 1
        if collection.trimmed_revision > 0:
            with pytest.raises(Expired, match="too old resource version"):
                collection.subscribe(collection.trimmed_revision - 1)
            with pytest.raises(Expired, match="too old"):
                collection.at(collection.trimmed_revision - 1)
        await store.create(NODES, "", "last", thing("last"))  # carries what was to be forgotten to the file
        await store.close()
        nodes = store.collection(NODES)
        records = [*collection.records.values(), *nodes.records.values()]
        events = [*collection.events, *nodes.events]
        needed = {record.revision for record in records}
        needed |= {event.record.revision for event in events}
        needed |= {event.previous.revision for event in events if event.previous}
        reopened = Store(path, Limits(events=kept))
        stored = {row.revision for row in reopened._database.load()}
        assert needed <= stored
        assert len(stored - needed) <= 2, "what the last write pushed out goes with the next"
        assert state(reopened) == {name: record.object() for name, record in collection.records.items()}
        assert [e.record.revision for e in reopened.collection(PODS).events] == [
            e.record.revision for e in collection.events
        ]
        await reopened.close()

    with_store(body, Limits(events=kept))


def test_history_is_bounded_by_bytes_too() -> None:
    async def body(store: Store, _: Path) -> None:
        record = await store.create(PODS, "a", "x", thing("x"))
        for value in range(200):
            record = await store.update(PODS, {**thing("x", value), "data": "y" * 1000}, record)
        assert store.statistics().superseded_bytes <= 20_000
        assert 10 <= len(store.collection(PODS).events) <= 20

    with_store(body, Limits(superseded_bytes=20_000))


# Subscriptions.


def test_a_reader_that_is_too_slow_is_told_so() -> None:
    async def body(store: Store, _: Path) -> None:
        reader = store.collection(PODS).subscribe(0)
        for i in range(5):
            await store.create(PODS, "a", f"x{i}", thing(f"x{i}"))
        with pytest.raises(Expired, match="fell behind"):
            reader.take(10)

    with_store(body, Limits(events=3))


def test_a_wait_ends_with_the_next_change_or_wake() -> None:
    async def body(store: Store, _: Path) -> None:
        reader = store.collection(PODS).subscribe(0)
        waiting = asyncio.create_task(reader.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        await store.create(NODES, "", "other", thing("other"))
        assert not waiting.done()
        await store.create(PODS, "a", "x", thing("x"))
        await waiting
        assert [event.record.name for event in reader.take(10)] == ["x"]
        reader.wake()
        await reader.wait()
        reader.close()
        assert store.statistics().subscriptions == 0

    with_store(body)


def test_listeners_hear_before_the_writer_is_answered() -> None:
    async def body(store: Store, _: Path) -> None:
        heard: list[str] = []
        store.listen(lambda resource, event: heard.append(f"{resource[1]} {event.record.name} {event.type}"))
        written = store.create(PODS, "a", "x", thing("x"))
        written.add_done_callback(lambda _: heard.append("answered"))
        await written
        await asyncio.sleep(0)
        assert heard == ["pods x ADDED", "answered"]

    with_store(body)


def test_a_listener_that_fails_loses_no_write() -> None:
    """A defect in a listener is reported by the loop; writers are answered, watches woken, and writing goes on."""

    async def body(store: Store, _: Path) -> None:
        told: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(str(context["exception"])))

        def broken(_resource: object, _event: object) -> None:
            raise RuntimeError("a defect")

        store.listen(broken)
        assert (await store.create(PODS, "a", "x", thing("x"))).name == "x"
        assert (await store.create(PODS, "a", "y", thing("y"))).name == "y"
        assert told == ["a defect", "a defect"]

    with_store(body)


# Order.


@given(
    st.lists(st.tuples(names, names), unique=True),
    st.one_of(st.none(), names),
    st.one_of(st.none(), st.tuples(names, names)),
)
def test_between_is_a_filter(
    pairs: list[tuple[str, str]], namespace: str | None, after: tuple[str, str] | None
) -> None:
    ordered = sorted(pairs)
    expected = [p for p in ordered if (namespace is None or p[0] == namespace) and (after is None or p > after)]
    assert list(between(ordered, namespace, after)) == expected

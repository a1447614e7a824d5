"""An informer's cache ends equal to the server, whatever happens on the way, and tells every change."""

import asyncio
from typing import Any

import httpx2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mizzen.kinds import Model
from mizzen.kube.informer import Informer, Informers
from mizzen.kube.resources import ResourceInfo, meta_of, untyped

from . import virtual
from .fake_server import FakeServer, status

Thing = untyped(ResourceInfo("", "v1", "Thing", "things", namespaced=True))
NAMES = ("a", "b", "c")

actions = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(NAMES), st.integers(0, 3)),
    st.tuples(st.just("remove"), st.sampled_from(NAMES)),
    st.tuples(st.just("recreate"), st.sampled_from(NAMES)),
    st.tuples(st.just("cut")),
    st.tuples(st.just("compact")),
    st.tuples(st.just("repeat"), st.booleans()),
    st.tuples(st.just("lose")),
    st.tuples(st.just("down"), st.booleans()),
    st.tuples(st.just("too many")),
    st.tuples(st.just("write"), st.sampled_from(NAMES), st.integers(0, 3)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES)),
    st.tuples(st.just("hold"), st.booleans()),
    st.tuples(st.just("slow lists"), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from((0.0, 0.05, 1.0, 400.0))),
)


async def _perform(server: FakeServer, action: tuple[Any, ...], informer: Informer[Any]) -> None:
    match action:
        case ("put", name, value):
            server.put("things", name, value=value)
        case ("remove", name) if ("things", "default", name) in server.objects:
            server.remove("things", name)
        case ("recreate", name) if ("things", "default", name) in server.objects:
            server.remove("things", name)
            server.put("things", name, value=9)
        case ("write", name, value) if informer.is_synced:
            obj = informer.wrote(Thing(server.put("things", name, value=value)))
            assert informer.get("default", name) == obj, "what was written is seen at once"
        case ("delete", name) if informer.is_synced and ("things", "default", name) in server.objects:
            obj = Thing(server.objects["things", "default", name])
            server.remove("things", name)
            informer.deleted(obj)
            assert informer.get("default", name) is None, "what was deleted is gone at once"
        case ("hold", on):
            server.hold(on)
        case ("slow lists", on):
            server.slow_lists = on
        case ("cut",):
            server.cut_watches()
        case ("compact",):
            server.compact()
        case ("repeat", on):
            server.repeat_events = on
        case ("lose",):
            server.lose_events += 1
        case ("down", on):
            server.down = on
            if on:
                server.cut_watches()
        case ("too many",):
            server.next(httpx2.Response(429, json=status(429, "TooManyRequests", retryAfterSeconds=1)), "GET")
        case ("wait", seconds):
            await asyncio.sleep(seconds)


LOST = [("wait", 1.0), ("lose",), ("put", "a", 1), ("wait", 1.0), ("put", "b", 1)]
HELD = ("wait", 1.0), ("hold", True)
STALE_LIST = (
    ("put", "b", 1), *HELD, ("put", "c", 1),
    ("slow lists", True), ("compact",), ("hold", False), ("cut",), ("wait", 1.3),
)  # fmt: skip
OURS_AHEAD = {
    "an event from before our write": [*HELD, ("put", "a", 1), ("write", "a", 2), ("hold", False)],
    "an event from before our deletion": [("put", "a", 1), *HELD, ("put", "a", 2), ("delete", "a"), ("hold", False)],
    "a deletion from before our creation": [
        ("put", "a", 1),
        *HELD,
        ("remove", "a"),
        ("write", "a", 1),
        ("hold", False),
    ],
    "a list from before our write": [*STALE_LIST, ("write", "b", 2)],
    "a list from before our creation": [*STALE_LIST, ("write", "a", 1)],
    "a list from before our deletion": [*STALE_LIST, ("delete", "b")],
}
REPEATED = [("wait", 1.0), ("repeat", True), ("put", "a", 1), ("wait", 1.0), ("remove", "a")]


@given(script=st.lists(actions, max_size=25), streams_lists=st.booleans())
@example(script=LOST, streams_lists=True)
@example(script=LOST, streams_lists=False)
@example(script=REPEATED, streams_lists=True)
@settings(max_examples=120, deadline=None)
def test_cache_ends_equal_to_the_server(script: list[tuple[Any, ...]], streams_lists: bool) -> None:
    """For any interleaving of changes, of ours and others', breaks, 410s, late, repeated and lost events: at rest, and
    after at most one period of listing anew, cache and server agree, and so does who followed only the changes."""

    async def main() -> None:
        server = FakeServer(streams_lists=streams_lists)
        followed: dict[str, Any] = {}
        reached: dict[str, int] = {}

        def follow(old: Any, new: Any) -> None:
            assert followed.get((old or new)["metadata"]["name"]) == old, "a change starts where the last one ended"
            if new is None:
                del followed[old["metadata"]["name"]]
                return
            name, version = new["metadata"]["name"], int(new["metadata"]["resourceVersion"])
            assert version > reached.get(name, 0), "the past does not come back"
            followed[name], reached[name] = new, version

        async with server.client() as client, Informer(client, Thing, relist_after_s=3600, rng=lambda: 0.0) as informer:
            informer.subscribe(follow)
            for action in script:
                await _perform(server, action, informer)
            server.down = False
            server.hold(False)
            # Longer than a period of listing anew and the longest watch that may be open when it falls due.
            await asyncio.sleep(3600 + 700)
            expected = {name: obj["metadata"] for (_, name), obj in server.of("things").items()}
            assert {meta_of(obj).name: obj["metadata"] for obj in informer.list()} == expected
            assert {name: obj["metadata"] for name, obj in followed.items()} == expected

    virtual.run(main())


@pytest.mark.parametrize("script", OURS_AHEAD.values(), ids=OURS_AHEAD.keys())
def test_older_news_does_not_undo_what_we_wrote(script: list[tuple[Any, ...]]) -> None:
    """Between our write and the moment the watch has caught up, no change of that object is told that takes it back."""

    async def main() -> None:
        server = FakeServer(streams_lists=False)
        told: list[Any] = []
        async with server.client() as client, Informer(client, Thing, rng=lambda: 0.0) as informer:
            for action in script:
                told.clear()
                await _perform(server, action, informer)
                if action[0] in {"write", "delete"}:
                    name, held = action[1], informer.get("default", action[1])
                    informer.subscribe(lambda *change: told.append(change))
                    told.clear()
            await asyncio.sleep(10)
            assert [change for change in told if any(obj and meta_of(obj).name == name for obj in change)] == []
            assert informer.get("default", name) == held

    virtual.run(main())


@pytest.mark.looptime
async def test_an_answer_that_comes_after_the_deletion_brings_nothing_back() -> None:
    server = FakeServer()
    old = Thing(server.put("things", "a"))
    async with server.client() as client, Informer(client, Thing, rng=lambda: 0.0) as informer:
        await informer.synced(5)
        server.hold(True)
        late = Thing(server.put("things", "a", n=1))
        server.remove("things", "a")
        informer.deleted(old)
        informer.wrote(late)
        assert len(informer) == 0


@pytest.mark.looptime
async def test_an_answer_that_the_watch_has_overtaken_brings_nothing_back() -> None:
    """Another deletes what we made before we have read that it was made."""
    server = FakeServer()
    async with server.client() as client, Informer(client, Thing, rng=lambda: 0.0) as informer:
        await informer.synced(5)
        made = Thing(server.put("things", "a"))
        server.remove("things", "a")
        await asyncio.sleep(1)
        informer.wrote(made)
        assert len(informer) == 0


@pytest.mark.looptime
@pytest.mark.parametrize("streams_lists", [True, False])
async def test_a_change_is_seen_at_once(streams_lists: bool) -> None:
    """No waiting and no polling between a change on the server and the subscriber."""
    server = FakeServer(streams_lists=streams_lists)
    server.put("things", "a")
    seen = []
    async with server.client() as client, Informer(client, Thing, rng=lambda: 0.0) as informer:
        informer.subscribe(lambda old, new: seen.append((old and old["n"], new and new["n"])))
        server.objects["things", "default", "a"]["n"] = 0
        await informer.synced(5)
        at_s = asyncio.get_running_loop().time()
        server.put("things", "a", n=1)
        server.remove("things", "a")
        for _ in range(20):
            await asyncio.sleep(0)
        assert seen == [(None, 0), (0, 1), (1, None)]
        assert asyncio.get_running_loop().time() == at_s


@pytest.mark.looptime
async def test_a_break_resumes_without_listing_again() -> None:
    server = FakeServer()
    server.put("things", "a")
    async with server.client() as client, Informer(client, Thing, rng=lambda: 0.0) as informer:
        await informer.synced(5)
        for n in range(5):
            server.cut_watches()
            server.put("things", f"b{n}")
            await asyncio.sleep(1)
        assert len(informer) == 6
        assert informer.statistics().lists == 1


@pytest.mark.looptime
async def test_410_lists_again_and_reports_what_was_missed_as_changes() -> None:
    server = FakeServer()
    server.put("things", "a")
    server.put("things", "b")
    seen: list[tuple[str | None, str | None]] = []
    async with server.client() as client, Informer(client, Thing, rng=lambda: 0.0) as informer:
        await informer.synced(5)
        informer.subscribe(lambda o, n: seen.append((o and o["metadata"]["name"], n and n["metadata"]["name"])))
        seen.clear()
        server.down = True
        server.cut_watches()
        await asyncio.sleep(1)
        server.remove("things", "a")
        server.put("things", "c")
        server.compact()
        server.down = False
        await asyncio.sleep(30)
        assert sorted(seen, key=str) == [("a", None), (None, "c")]
        assert informer.statistics().lists == 2


@pytest.mark.looptime
async def test_waits_grow_while_the_server_is_away_and_end_when_it_is_back() -> None:
    """An hour without a server costs few requests; its return is noticed within the longest wait."""
    server = FakeServer()
    server.down = True
    async with server.client() as client, Informer(client, Thing, rng=lambda: 0.0) as informer:
        with pytest.raises(TimeoutError, match="cannot connect"):
            await informer.synced(3600)
        assert len(server.requests) < 3600 / 10 * 1.5
        assert "cannot connect" in informer.statistics().last_error
        server.down = False
        began_s = asyncio.get_running_loop().time()
        await informer.synced()
        assert asyncio.get_running_loop().time() - began_s <= 10
        assert informer.statistics().last_error == ""


class Lines(httpx2.AsyncByteStream):
    """A watch stream as written here, open for `then_s` after its last line."""

    def __init__(self, *lines: bytes, then_s: float) -> None:
        self.lines, self.then_s = lines, then_s

    async def __aiter__(self) -> Any:
        for line in self.lines:
            yield line
        await asyncio.sleep(self.then_s)


@pytest.mark.looptime
async def test_changes_between_the_initial_events_count() -> None:
    server = FakeServer()
    thing = b'{"metadata":{"name":"%s","namespace":"default","resourceVersion":"%d"}}'
    end = b'{"metadata":{"resourceVersion":"14","annotations":{"k8s.io/initial-events-end":"true"}}}'
    events = [
        (b"ADDED", thing % (b"a", 11)),
        (b"ADDED", thing % (b"b", 12)),
        (b"DELETED", thing % (b"a", 13)),
        (b"MODIFIED", thing % (b"b", 14)),
        (b"BOOKMARK", end),
    ]
    lines = [b'{"type":"%s","object":%s}\n' % event for event in events]
    server.next(httpx2.Response(200, stream=Lines(*lines, then_s=100)), "GET")
    async with server.client() as client, Informer(client, Thing, rng=lambda: 0.0) as informer:
        await informer.synced(60)
        assert [(meta_of(obj).name, meta_of(obj).resource_version) for obj in informer.list()] == [("b", "14")]


@pytest.mark.looptime
async def test_a_server_that_never_ends_the_initial_events_is_listed_instead() -> None:
    """An old server ignores `sendInitialEvents`: it sends objects, but not the bookmark after them."""
    server = FakeServer()
    server.put("things", "a")

    added = b'{"type":"ADDED","object":{"metadata":{"name":"a","namespace":"default","resourceVersion":"11"}}}\n'
    server.next(httpx2.Response(200, stream=Lines(added, then_s=10_000)), "GET")
    async with server.client() as client, Informer(client, Thing, rng=lambda: 0.0) as informer:
        await informer.synced(60)
        assert [meta_of(obj).name for obj in informer.list()] == ["a"]


@pytest.mark.looptime
async def test_an_object_that_does_not_fit_leaves_the_others_and_its_last_good_version() -> None:
    server = FakeServer()
    server.put("models", "good", spec={"task": "regression"})
    server.put("models", "bad", spec={"task": "fortune-telling"})
    told = []
    async with server.client() as client, Informer(client, Model, rng=lambda: 0.0) as informer:
        informer.subscribe_unreadable(told.append)
        await informer.synced(5)
        assert [model.name for model in informer.list()] == ["good"]
        server.put("models", "good", spec={"gates": [{"metric": "auc"}]})
        await asyncio.sleep(1)
        good = informer.get("default", "good")
        assert good is not None
        assert good.spec.task == "regression"
        assert sorted(key.name for key in informer.unreadable) == ["bad", "good"]
        assert [key.name for key in told] == ["bad", "good"]
        assert all("cannot be read as Model" in why for why in informer.unreadable.values())
        server.put("models", "good", spec={"task": "other"})
        server.remove("models", "bad")
        await asyncio.sleep(1)
        assert dict(informer.unreadable) == {}
        assert informer.get("default", "good").spec.task == "other"


@pytest.mark.looptime
async def test_versions_ahead_of_a_server_restored_from_older_data_are_listed_anew() -> None:
    server = FakeServer()
    server.put("things", "a")
    async with server.client() as client, Informer(client, Thing, rng=lambda: 0.0) as informer:
        await informer.synced(5)
        too_large = status(504, "Timeout", "Too large resource version", causes=[{"reason": "ResourceVersionTooLarge"}])
        server.objects.clear()
        server.history.clear()
        server.revision = server.oldest = 3
        server.put("things", "b")
        server.next(httpx2.Response(504, json=too_large), "GET")
        server.cut_watches()
        await asyncio.sleep(30)
        assert [meta_of(obj).name for obj in informer.list()] == ["b"]


@pytest.mark.looptime
async def test_informers_are_shared_by_class_and_selectors_and_start_when_asked_for() -> None:
    server = FakeServer()
    server.put("things", "a")
    async with server.client() as client:
        informers = Informers(client)
        first = informers.of(Thing, labels={"x": "1", "y": "2"})
        assert informers.of(Thing, labels="x=1,y=2") is first
        assert informers.of(Thing) is not first
        running = asyncio.create_task(informers.run())
        await informers.synced(5)
        late = informers.of(Thing, namespace="default")
        await late.synced(5)
        assert len(late) == 1
        informers.drop(late)
        await asyncio.sleep(1)
        server.put("things", "b")
        await asyncio.sleep(1)
        assert (len(late), len(first)) == (1, 2)
        assert informers.of(Thing, namespace="default") is not late
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.looptime
async def test_a_subscriber_that_raises_is_a_bug_that_is_not_hidden() -> None:
    server = FakeServer()
    server.put("things", "a")

    def broken(old: Any, new: Any) -> None:
        raise KeyError("bug")

    async with server.client() as client:
        informers = Informers(client)
        informers.of(Thing).subscribe(broken)
        with pytest.raises(ExceptionGroup) as raised:
            await informers.run()
        assert raised.value.exceptions[0].args == ("bug",)


@pytest.mark.looptime
async def test_indexes_follow_the_objects() -> None:
    server = FakeServer()
    server.put("things", "a", colour="red")
    server.put("things", "b", colour="red")
    async with server.client() as client, Informer(client, Thing, rng=lambda: 0.0) as informer:
        informer.add_index("colour", lambda obj: [obj["colour"]])
        await informer.synced(5)
        server.put("things", "a", colour="blue")
        server.remove("things", "b")
        await asyncio.sleep(1)
        assert [meta_of(obj).name for obj in informer.by_index("colour", "blue")] == ["a"]
        assert list(informer.by_index("colour", "red")) == []

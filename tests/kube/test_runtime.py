"""Controllers end with the world as wanted: each key is reconciled after its last change, alone, whatever fails."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.kinds import Model
from mizzen.kube.conditions import add_finalizer, is_true, remove_finalizer, with_condition
from mizzen.kube.errors import Conflict
from mizzen.kube.informer import Informer, Informers
from mizzen.kube.leases import Election, LeadershipLost
from mizzen.kube.metrics import Registry
from mizzen.kube.resources import Key, ResourceInfo, meta_of, untyped
from mizzen.kube.runtime import Controller, Permanent, Result, Runtime, Watch, controller_of, differs, itself, labelled

from . import virtual
from .fake_server import EPOCH, FakeServer, virtual_now
from .test_informer import _perform, actions

Thing = untyped(ResourceInfo("", "v1", "Thing", "things", namespaced=True))
Part = untyped(ResourceInfo("", "v1", "Part", "parts", namespaced=True))


class Recording(Controller):
    """Calls `act` for each reconcile and remembers what it saw."""

    name = "recording"

    def __init__(self, informers: Informers, act: Callable[[Key], Any] = lambda key: None, cls: Any = Thing) -> None:
        self.things: Informer[Any] = informers.of(cls)
        self.parts = informers.of(Part)
        self.act = act
        self.seen: list[tuple[float, Key, Any]] = []
        self.unreadable: list[Key] = []
        self.at_work: set[Key] = set()

    def watches(self) -> Sequence[Watch[Any]]:
        return Watch(self.things), Watch(self.parts, keys=controller_of(self.things.cls))

    async def reconcile(self, key: Key) -> Result | None:
        assert key not in self.at_work
        self.at_work.add(key)
        try:
            self.seen.append((asyncio.get_running_loop().time(), key, self.things.at(key)))
            outcome = self.act(key)
            return await outcome if asyncio.iscoroutine(outcome) else outcome
        finally:
            self.at_work.discard(key)

    async def on_unreadable(self, key: Key, why: str) -> None:
        self.unreadable.append(key)


class Running:
    """A runtime around one recording controller, over a fake server."""

    def __init__(self, server: FakeServer, act: Callable[[Key], Any] = lambda key: None, **more: Any) -> None:
        self.informers = Informers(server.client(), rng=lambda: 0.0)
        self.controller = Recording(self.informers, act, more.pop("cls", Thing))
        self.runtime = Runtime(self.informers, [self.controller], **more)

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.runtime.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.runtime.stop()
        await self.task

    @property
    def times(self) -> list[float]:
        return [at_s for at_s, _, _ in self.controller.seen]


@given(script=st.lists(actions, max_size=20), fails=st.sets(st.integers(0, 30), max_size=6))
@settings(max_examples=50, deadline=None)
def test_each_key_is_reconciled_after_its_last_change_whatever_happens(
    script: list[tuple[Any, ...]], fails: set[int]
) -> None:
    """For any interleaving of changes, breaks, lost and repeated events and failing reconciles: the last reconcile of
    each key saw the key's last state."""

    async def main() -> None:
        server = FakeServer()
        count = 0

        def act(key: Key) -> None:
            nonlocal count
            count += 1
            if count in fails:
                raise Conflict({"message": "somebody else was faster"})

        async with Running(server, act) as running:
            everything = set()
            for action in script:
                await _perform(server, action, running.controller.things)
                everything |= set(server.of("things"))
            server.down = False
            server.hold(False)
            await asyncio.sleep(1800 + 700)
            last = {(key.namespace, key.name): obj for _, key, obj in running.controller.seen}
            expected = {key: server.of("things").get(key) for key in everything}
            assert {key: obj and obj["metadata"] for key, obj in last.items()} == {
                key: obj and obj["metadata"] for key, obj in expected.items() if obj is not None or key in last
            }

    virtual.run(main())


@pytest.mark.looptime
async def test_reconciles_that_wait_for_nothing_let_others_have_the_loop_in_between() -> None:
    server, done, seen = FakeServer(), 0, set[int]()
    for number in range(200):
        server.put("things", f"a{number}")

    async def watch() -> None:
        while done < 200:
            seen.add(done)
            await asyncio.sleep(0)

    def act(key: Key) -> None:
        nonlocal done
        done += 1

    async with Running(server, act):
        await watch()
    steps = sorted(seen)
    assert max(after - before for before, after in pairwise(steps)) <= 2 * Recording.workers


@pytest.mark.looptime
async def test_changes_of_parts_reconcile_their_owner() -> None:
    server = FakeServer()
    server.put("things", "a")
    async with Running(server) as running:
        await asyncio.sleep(10)
        owner = {"apiVersion": "v1", "kind": "Thing", "name": "a", "uid": "u1", "controller": True}
        server.put("parts", "p", metadata={"ownerReferences": [owner]})
        await asyncio.sleep(10)
        server.put("parts", "stranger", metadata={"ownerReferences": [owner | {"kind": "Other"}]})
        server.put("parts", "alone")
        await asyncio.sleep(10)
        server.remove("parts", "p")
        await asyncio.sleep(10)
        assert [key.name for _, key, _ in running.controller.seen] == ["a", "a", "a"]
        assert running.times == [0, 10, 30]


def test_keys_come_from_labels_and_owners() -> None:
    part = Part(metadata={"name": "p", "namespace": "n", "labels": {"of": "a"}})
    assert list(labelled("of")(part)) == [Key("n", "a")]
    assert list(labelled("other")(part)) == []
    assert list(itself(part)) == [Key("n", "p")]


@pytest.mark.looptime
async def test_results_ask_for_another_look_and_failures_wait_longer_each_time() -> None:
    server = FakeServer()
    server.put("things", "a")
    outcomes: list[Any] = [
        Result(after_s=30),
        None,
        RuntimeError("bug"),
        ValueError("bug"),
        None,
        KeyError("bug"),
        None,
    ]

    def act(key: Key) -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async with Running(server, act) as running:
        await asyncio.sleep(100)
        assert running.times == [0, 30]
        server.put("things", "a")
        await asyncio.sleep(0.03)
        (statistics,) = running.runtime.statistics().controllers
        assert statistics.errors == {"default/a": "RuntimeError: bug"}
        await asyncio.sleep(100)
        first, second, third = (at_s - 100 for at_s in running.times[2:])
        assert first == 0
        assert 0.035 <= second <= 0.05
        assert 0.07 <= third - second <= 0.1
        (statistics,) = running.runtime.statistics().controllers
        assert (statistics.errors, statistics.failed, statistics.reconciled) == ({}, 2, 5)
        server.put("things", "a")
        await asyncio.sleep(100)
        failed, again = running.times[5:]
        assert again - failed <= 0.05, "a success makes the next failure the first"


@pytest.mark.looptime
async def test_a_permanent_failure_waits_for_a_change_and_not_for_time() -> None:
    server = FakeServer()
    server.put("things", "a", good=False)

    def act(key: Key) -> None:
        if not running.controller.things.at(key)["good"]:
            raise Permanent("spec.good: expected true, got false")

    async with Running(server, act, resync_s=60) as running:
        await asyncio.sleep(1000)
        assert len(running.times) == 1
        (statistics,) = running.runtime.statistics().controllers
        assert statistics.errors == {"default/a": "Permanent: spec.good: expected true, got false"}
        server.put("things", "a", good=True)
        await asyncio.sleep(1)
        assert len(running.times) == 2
        assert running.runtime.statistics().controllers[0].errors == {}


@pytest.mark.looptime
async def test_all_keys_are_looked_at_anew_from_time_to_time() -> None:
    server = FakeServer()
    server.put("things", "a")
    async with Running(server, resync_s=100) as running:
        await asyncio.sleep(350)
        assert running.times == [0, 100, 200, 300]


@pytest.mark.looptime
async def test_a_reconcile_that_hangs_is_cancelled_and_tried_again() -> None:
    server = FakeServer()
    server.put("things", "a")
    async with Running(server, lambda key: asyncio.sleep(1e6)) as running:
        running.controller.timeout_s = 50
        await asyncio.sleep(60)
        assert len(running.times) == 2
        assert "TimeoutError" in running.runtime.statistics().controllers[0].errors["default/a"]
        running.controller.act = lambda key: None


@pytest.mark.looptime
async def test_stopping_lets_running_reconciles_finish_and_starts_none() -> None:
    server = FakeServer()
    for name in "abcdefgh":
        server.put("things", name)
    finished = []

    async def slow(key: Key) -> None:
        await asyncio.sleep(5)
        finished.append(key)

    running = Running(server, slow)
    async with running:
        await asyncio.sleep(1)
    assert asyncio.get_running_loop().time() == 5
    assert len(finished) == len(running.times) == running.controller.workers


@pytest.mark.looptime
async def test_stopping_does_not_wait_for_ever() -> None:
    server = FakeServer()
    server.put("things", "a")
    async with Running(server, lambda key: asyncio.sleep(1e6), grace_s=10):
        await asyncio.sleep(1)
    assert asyncio.get_running_loop().time() == 11


@pytest.mark.looptime
async def test_a_standby_is_warm_and_takes_over_when_the_leader_stops() -> None:
    server = FakeServer()
    server.put("things", "a")

    def running(name: str) -> Running:
        election = Election(server.client(), "main", "default", name, clock=virtual_now, rng=lambda: 0.0)
        return Running(server, election=election)

    first, second = running("first"), running("second")
    async with first:
        await asyncio.sleep(5)
        async with second:
            await asyncio.sleep(5)
            assert (len(first.times), len(second.times)) == (1, 0)
            assert len(second.controller.things) == 1
            first.runtime.stop()
            await asyncio.sleep(3)
            assert len(second.times) == 1
            assert second.runtime.statistics().leading
            assert not first.runtime.statistics().leading


@pytest.mark.looptime
async def test_a_candidate_that_does_not_lead_stops_at_once() -> None:
    server = FakeServer()
    spec = {"holderIdentity": "other", "leaseDurationSeconds": 1000}
    server.put("leases", "main", spec=spec)
    election = Election(server.client(), "main", "default", "me", clock=virtual_now, rng=lambda: 0.0)
    async with Running(server, election=election) as running:
        await asyncio.sleep(10)
    assert asyncio.get_running_loop().time() == 10
    assert running.times == []


@pytest.mark.looptime
async def test_a_lost_lease_ends_the_runtime() -> None:
    server = FakeServer()
    server.put("things", "a")
    election = Election(server.client(), "main", "default", "me", clock=virtual_now, rng=lambda: 0.0)
    running = Running(server, election=election)
    asyncio.get_running_loop().call_later(5, lambda: server.put("leases", "main", spec={"holderIdentity": "thief"}))
    with pytest.raises(LeadershipLost):
        await running.runtime.run()


@pytest.mark.looptime
async def test_an_unreadable_object_is_reported_and_not_taken_for_deleted() -> None:
    server = FakeServer()
    server.put("models", "never", spec={"task": "?"})
    server.put("models", "once", spec={"task": "other"})
    async with Running(server, cls=Model) as running:
        await asyncio.sleep(1)
        assert [key.name for key in running.controller.unreadable] == ["never"]
        assert [key.name for _, key, _ in running.controller.seen] == ["once"]
        server.put("models", "once", spec={"task": "?"})
        await asyncio.sleep(1)
        assert [key.name for key in running.controller.unreadable] == ["never", "once"]
        assert running.controller.seen[-1][2].spec.task == "other"


@pytest.mark.looptime
async def test_numbers_are_there_for_prometheus() -> None:
    server, registry = FakeServer(), Registry()
    server.put("things", "a")
    async with Running(server, metrics=registry):
        await asyncio.sleep(1)
    assert 'mizzen_reconcile_seconds_count{controller="recording",outcome="done"} 1' in registry.text()
    assert 'mizzen_queue_waiting{controller="recording"} 0' in registry.text()


@pytest.mark.looptime
async def test_finalizers_are_put_on_and_taken_off_and_never_by_an_old_copy() -> None:
    server = FakeServer()
    client = server.client()
    old = Thing(server.put("things", "a", metadata={"finalizers": ["other"]}))
    new = await add_finalizer(client, old, "mine")
    assert meta_of(new).finalizers == ("other", "mine")
    assert await add_finalizer(client, new, "mine") is new
    stale = Thing({**old, "metadata": {**old["metadata"], "finalizers": ["mine"]}})
    with pytest.raises(Conflict):
        await remove_finalizer(client, stale, "mine")
    freed = await remove_finalizer(client, new, "mine")
    assert meta_of(freed).finalizers == ("other",)
    server.remove("things", "a")
    assert await remove_finalizer(client, new, "mine") is None


def test_a_conditions_time_is_when_its_status_last_changed() -> None:
    conditions = with_condition(None, "Ready", None, "Unknown", now=EPOCH)
    assert conditions[0]["status"] == "Unknown"
    later = with_condition(conditions, "Ready", None, "Still", "m", now=virtual_later(5))
    assert later[0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    changed = with_condition(later, "Ready", True, "Done", now=virtual_later(9), observedGeneration=2)
    assert changed == [
        {"type": "Ready", "status": "True", "reason": "Done", "message": "", "observedGeneration": 2,
         "lastTransitionTime": "2026-01-01T00:00:09Z"}
    ]  # fmt: skip
    assert is_true(changed, "Ready")
    assert not is_true(changed, "Other")
    assert with_condition(changed, "Other", False, "R", now=EPOCH)[0] == changed[0]


def virtual_later(seconds: int) -> Any:
    return EPOCH.replace(second=seconds)


def test_a_watch_may_pass_over_changes_of_what_nothing_depends_on() -> None:
    """What comes and what goes always counts."""
    when = differs(lambda text: text[:1])
    assert [when(None, "a1"), when("a1", None), when("a1", "a2"), when("a1", "b1")] == [True, True, False, True]

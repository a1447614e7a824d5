"""A rolling update keeps its two promises at each step, and ends."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.local.cluster.workloads.rollout import (
    Bounds,
    Part,
    absolute,
    grow,
    is_saturated,
    proportional,
    roll,
    to_delete,
)

bounds = st.builds(
    Bounds.of,
    st.integers(0, 12),
    st.integers(0, 12) | st.integers(0, 200).map(lambda percent: f"{percent}%"),
    st.integers(0, 12) | st.integers(0, 100).map(lambda percent: f"{percent}%"),
)


class World:
    """ReplicaSets whose Pods come up, die and are reported late, as chance has it."""

    def __init__(self, sizes: list[int], seed: int) -> None:
        self.asked = {f"rs{n}": size for n, size in enumerate(sizes)}
        self.available = dict(self.asked)
        self.reported = dict(self.asked)
        self.chance = random.Random(seed)

    def parts(self) -> tuple[Part, list[Part]]:
        made = [
            Part(name, self.asked[name], self.reported[name], created=(str(n).zfill(3), ""))
            for n, name in enumerate(self.asked)
        ]
        return made[-1], made[:-1]

    def pass_time(self, *, all_comes_up: bool) -> None:
        for name, asked in self.asked.items():
            if self.available[name] > asked:
                self.available[name] = asked
            elif self.available[name] < asked and (all_comes_up or self.chance.random() < 0.5):
                self.available[name] += 1
            if all_comes_up or self.chance.random() < 0.7:
                self.reported[name] = self.available[name]


@given(bounds, st.lists(st.integers(0, 6), min_size=1, max_size=3), st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_never_too_many_never_too_few_and_always_done(bounds: Bounds, old: list[int], seed: int) -> None:
    """From an old state that is whole: at each step at most `most` are asked for, at least `least` are available, and
    when Pods come up in the end the new ReplicaSet has all."""
    old[0] = max(0, bounds.desired - sum(old[1:]))
    world = World([*old, 0], seed)
    most, least = max(bounds.most, sum(old)), min(bounds.least, sum(old))
    for step in range(400):
        new, others = world.parts()
        world.asked.update(roll(new, others, bounds))
        assert sum(world.asked.values()) <= most
        # What the ReplicaSets will make of what they are told, at once and in the worst order.
        assert sum(min(world.available[name], asked) for name, asked in world.asked.items()) >= least
        world.pass_time(all_comes_up=step >= 40)
    *olds, newest = world.asked.values()
    assert (sum(olds), newest) == (0, bounds.desired)
    new, others = world.parts()
    assert roll(new, others, bounds) == {}


@given(bounds, st.integers(0, 2**32))
def test_pods_that_never_come_up_stop_the_rollout_and_cost_no_more_than_is_allowed(bounds: Bounds, seed: int) -> None:
    """A template that does not work never takes more than `max_unavailable` of the old Pods."""
    world = World([bounds.desired, 0], seed)
    for _ in range(100):
        new, others = world.parts()
        world.asked.update(roll(new, others, bounds))
        world.available["rs0"] = min(world.available["rs0"], world.asked["rs0"])
        world.reported["rs0"] = world.available["rs0"]
    assert world.available["rs0"] == bounds.least
    assert sum(world.asked.values()) <= max(bounds.most, bounds.desired)


def test_broken_old_pods_go_first() -> None:
    """With no room to lose, a broken old Pod still makes room for a new one."""
    new, old = Part("new", 0, 0), Part("old", 3, 1)
    assert roll(new, [old], Bounds.of(3, 0, 1)) == {"old": 2}
    assert roll(Part("new", 1, 0), [Part("old", 2, 1)], Bounds.of(3, 0, 2)) == {"old": 1}


def test_of_several_old_ones_the_oldest_goes_first() -> None:
    parts = [Part("b", 2, 2, ("2026-02", "")), Part("a", 2, 2, ("2026-01", ""))]
    assert roll(Part("new", 2, 2), parts, Bounds.of(4, 2, 0)) == {"a": 0}


def test_late_reports_do_not_take_away_what_is_needed() -> None:
    """An old ReplicaSet that was told to have 9 and still reports 10 counts for 9: Kubernetes would go down to 6 here."""
    assert roll(Part("new", 4, 1), [Part("old", 9, 10)], Bounds.of(10, 3, 2)) == {"old": 7}


@pytest.mark.parametrize(
    ("value", "of", "up", "down"),
    [
        ("25%", 10, 3, 2),
        ("25%", 1, 1, 0),
        ("0%", 7, 0, 0),
        ("100%", 7, 7, 7),
        ("33%", 3, 1, 0),
        (4, 1, 4, 4),
        ("5", 1, 5, 5),
    ],
)
def test_percentages_round_up_for_surge_and_down_for_unavailable(value: int | str, of: int, up: int, down: int) -> None:
    assert (absolute(value, of, up=True), absolute(value, of, up=False)) == (up, down)


def test_bounds_that_could_not_move_may_lose_one() -> None:
    assert Bounds.of(5, 0, "10%") == Bounds(5, 0, 1)
    assert Bounds.of(5, "0%", 0) == Bounds(5, 0, 1)
    assert Bounds.of(3, 0, "500%").least == 0


def test_a_new_one_that_is_too_large_is_cut() -> None:
    assert grow(Part("new", 9, 9), [Part("old", 2, 2)], Bounds.of(5, 1, 1)) == 5


@given(st.lists(st.integers(0, 20), min_size=1, max_size=5), st.integers(0, 30), st.integers(0, 30), st.integers(0, 6))
def test_scaling_in_mid_rollout_is_spread_and_exact(sizes: list[int], before: int, after: int, surge: int) -> None:
    """All are together as large as allowed, none is negative, and none moves against the direction of the whole."""
    parts = [Part(f"rs{n}", size, size, (str(n), ""), most_when_scaled=before + surge) for n, size in enumerate(sizes)]
    new = proportional(parts, Bounds.of(after, surge, 1), statused=sum(sizes))
    active = [part for part in parts if part.replicas]
    assert new.keys() == {part.name for part in active}
    assert all(size >= 0 for size in new.values())
    if active:
        allowed = after + surge if after else 0
        assert sum(new.values()) == allowed
        changes = [new[part.name] - part.replicas for part in active]
        assert all(change >= 0 for change in changes) or all(change <= 0 for change in changes)


def test_scaling_in_mid_rollout_as_kubernetes_documents_it() -> None:
    """The example of the documentation: 10 replicas with a surge of 3, 8 old and 5 new, scaled to 15: 3 old and 2 new more."""
    parts = [Part("old", 8, 8, ("1", ""), 13), Part("new", 5, 0, ("2", ""), 13)]
    assert proportional(parts, Bounds.of(15, 3, 2), statused=13) == {"old": 11, "new": 7}


def test_saturated_means_all_of_it_available_and_meant() -> None:
    assert is_saturated(Part("new", 3, 3), 3, 3)
    assert not is_saturated(Part("new", 3, 2), 3, 3)
    assert not is_saturated(Part("new", 3, 3), 3, None)
    assert not is_saturated(Part("new", 3, 3), 4, 4)


def test_history_beyond_the_limit_goes_oldest_revision_first() -> None:
    history = [Part(name, 0, 0, (name, "")) for name in "abcd"]
    assert to_delete(history, {"a": 4, "b": 1, "c": 2, "d": 3}, 2) == ["b", "c"]
    assert to_delete(history, {}, 10) == []

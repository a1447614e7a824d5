"""What becomes of an object because of its owners: every combination, against the table in words."""

import itertools
from datetime import UTC, datetime

import pytest

from mizzen.kube.resources import Meta, Owner
from mizzen.local.cluster.garbage.decide import FOREGROUND, ORPHAN, Delete, Drop, Keep, OwnerState, blocking, decide

SOLID, WAITING, GONE = OwnerState.SOLID, OwnerState.WAITING, OwnerState.GONE
DELETED = datetime(2026, 1, 1, tzinfo=UTC)


def owners(*states: OwnerState) -> list[tuple[Owner, OwnerState]]:
    return [(Owner("v1", "Pod", f"o{n}", f"u{n}"), state) for n, state in enumerate(states)]


def test_an_object_without_owners_is_nobodys_business() -> None:
    assert decide(Meta("n", "a"), [], []) == Keep()


STATES = [states for n in (1, 2, 3) for states in itertools.product(OwnerState, repeat=n)]


@pytest.mark.parametrize("states", STATES)
def test_one_owner_that_stays_is_enough_and_none_is_the_end(states: tuple[OwnerState, ...]) -> None:
    decision = decide(Meta("n", "a"), owners(*states), [])
    leaving = frozenset(f"u{n}" for n, state in enumerate(states) if state is not SOLID)
    if SOLID not in states:
        assert decision == Delete("Background")
    else:
        assert decision == (Drop(leaving) if leaving else Keep())


def test_an_object_that_is_going_already_is_left_to_go() -> None:
    assert decide(Meta("n", "a", deleted=DELETED), owners(GONE), []) == Keep()
    waiting = Meta("n", "a", deleted=DELETED, finalizers=(FOREGROUND,))
    assert decide(waiting, owners(GONE), []) == Keep()
    assert decide(waiting, owners(GONE, SOLID), []) == Drop(frozenset({"u0"}))


def test_the_way_it_goes_is_asked_for_by_its_finalizers_and_by_owners_that_wait() -> None:
    child = Meta("n", "c")
    going = Meta("n", "c", deleted=DELETED, finalizers=(FOREGROUND,))
    assert decide(Meta("n", "a", finalizers=(ORPHAN,)), owners(GONE), [child]) == Delete("Orphan")
    assert decide(Meta("n", "a", finalizers=(FOREGROUND,)), owners(GONE), [child]) == Delete("Foreground")
    assert decide(Meta("n", "a"), owners(WAITING), []) == Delete("Background")
    assert decide(Meta("n", "a"), owners(WAITING), [child]) == Delete("Foreground")
    assert decide(Meta("n", "a"), owners(WAITING), [going]) == Delete("Foreground", unblock=True)


def test_who_blocks_an_owner() -> None:
    blocks, not_ = (
        Meta("n", name, owners=(Owner("v1", "Pod", "o", "u", block_deletion=name == "b"),)) for name in "bn"
    )
    other = Meta("n", "x", owners=(Owner("v1", "Pod", "o", "other", block_deletion=True),))
    assert blocking("u", [blocks, not_, other]) == [blocks]

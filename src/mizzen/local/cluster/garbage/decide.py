"""What becomes of an object because of its owners, and of an owner because of its dependents. Pure.

| its owners | what happens |
|---|---|
| at least one is there and stays | it stays; references to owners that are gone, or wait for it, are dropped |
| some wait for their dependents to go first, none stays | it is deleted, in the foreground where it has dependents |
| all are gone | it is deleted |
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from mizzen.kube.query import Propagation
from mizzen.kube.resources import Meta, Owner

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"


class OwnerState(Enum):
    """What is known of an owner."""

    SOLID = "there, and it stays"
    WAITING = "being deleted, and waits for its dependents"
    GONE = "not there"


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing is to be done."""


@dataclass(frozen=True, slots=True)
class Drop:
    """The references with these uids are to be taken out."""

    uids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Delete:
    """The object is to be deleted; `unblock` first lets its waiting owners go without it, to break a circle."""

    propagation: Propagation
    unblock: bool = False


Decision = Keep | Drop | Delete


def waits_for_dependents(meta: Meta) -> bool:
    """Whether the object is being deleted in the foreground: dependents first."""
    return meta.deleted is not None and FOREGROUND in meta.finalizers


def leaves_dependents(meta: Meta) -> bool:
    """Whether the object is being deleted and its dependents are to stay, without it."""
    return meta.deleted is not None and ORPHAN in meta.finalizers


def decide(meta: Meta, owners: Sequence[tuple[Owner, OwnerState]], dependents: Sequence[Meta]) -> Decision:
    """What becomes of an object with these owners."""
    if not owners or (meta.deleted is not None and not waits_for_dependents(meta)):
        return Keep()
    gone = frozenset(owner.uid for owner, state in owners if state is OwnerState.GONE)
    waiting = frozenset(owner.uid for owner, state in owners if state is OwnerState.WAITING)
    if len(gone | waiting) < len({owner.uid for owner, _ in owners}):
        return Drop(gone | waiting) if gone or waiting else Keep()
    if meta.deleted is not None:
        return Keep()
    if waiting and dependents:
        return Delete("Foreground", unblock=any(waits_for_dependents(one) for one in dependents))
    if ORPHAN in meta.finalizers:
        return Delete("Orphan")
    return Delete("Foreground" if FOREGROUND in meta.finalizers else "Background")


def blocking(owner_uid: str, dependents: Sequence[Meta]) -> list[Meta]:
    """The dependents without whose end the owner may not go."""
    return [
        one for one in dependents if any(owner.uid == owner_uid and owner.block_deletion for owner in one.owners)
    ]  # fmt: skip

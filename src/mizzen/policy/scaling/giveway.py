"""Whose workers make room when others have none: the least recently used first, and only as many as it takes.

An endpoint may give way when it may have no worker at all, has nothing waiting or running, and has been idle for a
moment; its next request starts a worker again. One with a minimum (`always-on`, `minReplicas`, a schedule) never does.

Room is made on one node, since a worker is on one: on that where the endpoints that give way have been idle longest.
Where even all of them would not be enough, none goes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mizzen.policy.scaling.placement import Room, Size, more

IDLE_S_MIN = 2.0
"""Shorter pauses are part of being used: giving way in each would start two endpoints' workers by turns."""


@dataclass(frozen=True, slots=True)
class Idle:
    """An endpoint that may give way. `workers`: what they ask for, by node."""

    key: str
    idle_s: float
    workers: Mapping[str, Size]


@dataclass(frozen=True, slots=True)
class MadeRoom:
    """The endpoints that go, for a worker that waits."""

    key: str
    """Whose worker waits."""
    givers: tuple[str, ...]


def make_room(nodes: Iterable[Room], idle: Iterable[Idle], waiting: Sequence[tuple[str, Size]]) -> list[MadeRoom]:
    """Who gives way for each waiting worker, in their order. `nodes`: as they will be once what is ending has ended."""
    rooms = {node.name: node for node in nodes}
    left = sorted((one for one in idle if one.idle_s >= IDLE_S_MIN), key=lambda one: (-one.idle_s, one.key))
    made: list[MadeRoom] = []
    for key, size in waiting:
        options = [
            option
            for name, room in rooms.items()
            if (option := _on(name, room, [one for one in left if one.key != key], size)) is not None
        ]
        if not options:
            continue
        _, name, givers = max(options, key=lambda option: (option[0], option[1]))
        for giver in givers:
            for node, freed in giver.workers.items():
                rooms[node] = rooms[node].freed(freed)
        rooms[name] = rooms[name].taken(size)
        gone = {giver.key for giver in givers}
        left = [one for one in left if one.key not in gone]
        made.append(MadeRoom(key, tuple(giver.key for giver in givers)))
    return made


def _on(name: str, room: Room, idle: Sequence[Idle], size: Size) -> tuple[float, str, list[Idle]] | None:
    """(how long the most recently used of them was idle, the node, who gives way there); `None`: not enough go."""
    givers: list[Idle] = []
    for one in [None, *(one for one in idle if name in one.workers)]:
        if one is not None:
            givers.append(one)
            room = room.freed(one.workers[name])
        if more([room], size.cpu, size.memory):
            kept = _needed(room, givers, name, size)
            return min((giver.idle_s for giver in kept), default=math.inf), name, kept
    return None


def _needed(room: Room, givers: list[Idle], name: str, size: Size) -> list[Idle]:
    """Without those that went first and turned out too small to matter: the most recently used are spared first."""
    kept = list(givers)
    for one in reversed(givers):
        without = room.taken(one.workers[name])
        if more([without], size.cpu, size.memory):
            room = without
            kept.remove(one)
    return kept

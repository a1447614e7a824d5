"""Events and requests that nobody would wish for: late, twice, out of order, at one moment, null, NaN, infinite, far
ahead, huge beside tiny, and entities that nobody has seen."""

import math
import random
from dataclasses import dataclass

from tests.features.oracle import Ask, Event

MINUTE = 60_000_000
FAR = 10**17
"""Microseconds: the year 5138."""
WINDOWS: list[tuple[int | None, int]] = [
    (2 * MINUTE, 1),
    (10 * MINUTE, MINUTE),
    (7 * MINUTE + 1, 3 * MINUTE),
    (60 * MINUTE, 1),
    (None, 1),
]
"""Lengths and hops."""
STRINGS = ["", "a", "b", "ab", "é", "z" * 40]


@dataclass(frozen=True)
class Case:
    seed: int
    kind: str
    """Of the values: `float`, `integer`, `text` or `boolean`."""
    entities: int
    events: list[Event]
    asks: list[Ask]
    bitemporal: bool


def case(seed: int) -> Case:
    """The same case for the same seed."""
    rng = random.Random(seed)
    kind = rng.choice(["float", "float", "float", "integer", "integer", "text", "boolean"])
    entities = rng.randint(1, 4)
    bitemporal = rng.random() < 0.7
    lateness = rng.choice(["constant", "jitter", "batches", "reversed", "some"])
    range_ = rng.choice(["plain", "wide", "far-from-zero"])
    events = [
        _event(rng, kind, entities, lateness if bitemporal else "none", range_)
        for _ in range(rng.choice([0, 3, 25, 80]))
    ]
    events += rng.sample(events, k=len(events) // 5)
    rng.shuffle(events)
    asks = [_ask(rng, entities, events, bitemporal) for _ in range(rng.randint(1, 25))]
    return Case(seed, kind, entities, events, asks, bitemporal)


def _event(rng: random.Random, kind: str, entities: int, lateness: str, range_: str) -> Event:
    time = rng.randrange(0, 90) * MINUTE if rng.random() < 0.6 else rng.randrange(-5 * MINUTE, 90 * MINUTE)
    if rng.random() < 0.03:
        time = FAR + rng.randrange(0, MINUTE)
    delay = {
        "none": 0,
        "constant": 3 * MINUTE,
        "jitter": rng.randrange(0, 20 * MINUTE),
        "some": 0 if rng.random() < 0.8 else rng.randrange(0, 80 * MINUTE),
        "batches": -time % (30 * MINUTE),
        "reversed": max(0, 90 * MINUTE - 2 * time),
    }[lateness]
    known = time + delay
    if lateness != "none" and rng.random() < 0.05:
        known = rng.choice([2**63 - 1, time - MINUTE])  # not known yet; announced before it happened
    return Event(rng.randrange(entities), time, known, _value(rng, kind, range_), rng.random() < 0.8)


def _value(rng: random.Random, kind: str, range_: str) -> object:
    if rng.random() < 0.1:
        return None
    if kind == "text":
        return rng.choice(STRINGS)
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "integer":
        return rng.choice([0, 1, -1, rng.randrange(-100, 100), rng.randrange(-(2**40), 2**40), 2**53 + 1, 2**62])
    chance = rng.random()
    if chance < 0.05:
        return rng.choice([math.nan, math.inf, -math.inf])
    if range_ == "wide" and chance < 0.3:
        return rng.choice([1e300, -1e300, 1e-300, 5e-324, 1e16, -0.0])
    if range_ == "far-from-zero":
        return 1e9 + rng.random()
    return rng.choice([0.0, 0.1, rng.uniform(-10, 10), float(rng.randrange(-5, 5))])


def _ask(rng: random.Random, entities: int, events: list[Event], bitemporal: bool) -> Ask:
    time = rng.choice([e.time for e in events]) if events and rng.random() < 0.5 else rng.randrange(0, 120 * MINUTE)
    known = time if rng.random() < 0.7 or not bitemporal else rng.choice([time + 15 * MINUTE, time - MINUTE, 2**63 - 1])
    return Ask(rng.randrange(entities + 1), time, known)

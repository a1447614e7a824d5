"""How many replicas each ReplicaSet of a Deployment should have next. Pure arithmetic, Kubernetes' rules.

A rolling update keeps two promises while one ReplicaSet grows and the others shrink: never more than `desired +
max_surge` Pods asked for, and never fewer than `desired - max_unavailable` available because of us. Each step is
computed from what is there, so that it may be taken twice, or after Pods died, and goes on from there.

Kubernetes counts as available what a ReplicaSet last reported, though it may have been told since to have fewer. Here
none counts for more than it was told to have, which keeps the second promise also when reports are late.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Sizes = dict[str, int]
"""ReplicaSet name to the replicas it should have; those not named stay."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a rolling update may do around the desired number."""

    desired: int
    max_surge: int
    max_unavailable: int

    @classmethod
    def of(cls, desired: int, max_surge: int | str, max_unavailable: int | str) -> "Bounds":
        """From absolute numbers or percentages: surge rounds up, unavailable down, and both 0 would never move."""
        surge = absolute(max_surge, desired, up=True)
        unavailable = min(absolute(max_unavailable, desired, up=False), desired)
        if surge == 0 and unavailable == 0:
            unavailable = 1
        return cls(desired, surge, unavailable)

    @property
    def most(self) -> int:
        """Pods at most."""
        return self.desired + self.max_surge

    @property
    def least(self) -> int:
        """Available Pods at least."""
        return max(0, self.desired - self.max_unavailable)


def absolute(value: int | str, of: int, *, up: bool) -> int:
    """A number, or a percentage of `of`: `"25%"` of 10 is 3 up and 2 down."""
    if isinstance(value, str) and value.endswith("%"):
        hundredths = int(value[:-1]) * of
        return -(-hundredths // 100) if up else hundredths // 100
    return int(value)


@dataclass(frozen=True, slots=True)
class Part:
    """One ReplicaSet: what it was asked for and what it has."""

    name: str
    replicas: int
    available: int
    created: tuple[str, str] = ("", "")
    """Sorts the oldest first."""
    most_when_scaled: int = 0
    """How large the whole Deployment could be when this size was set; 0: not known."""

    @property
    def counted(self) -> int:
        """The available Pods that will stay."""
        return min(self.available, self.replicas)


def grow(new: Part, old: Sequence[Part], bounds: Bounds) -> int:
    """The size of the new ReplicaSet: as large as the surge lets it be, or cut to the desired number."""
    if new.replicas >= bounds.desired:
        return bounds.desired
    room = bounds.most - new.replicas - sum(part.replicas for part in old)
    return new.replicas + max(0, min(room, bounds.desired - new.replicas))


def shrink(new: Part, old: Sequence[Part], bounds: Bounds) -> Sizes:
    """The sizes of the old ReplicaSets, smaller by what is broken first, then by what is not needed any more.

    What is broken may go as soon as it is more than the room that must be left for the new Pods that are still coming
    up; what is available only down to the least.
    """
    asked = new.replicas + sum(part.replicas for part in old)
    new_coming_up = new.replicas - new.counted
    spare = asked - bounds.least - new_coming_up
    if spare <= 0:
        return {}
    sizes: Sizes = {}
    oldest_first = sorted((part for part in old if part.replicas > 0), key=lambda part: part.created)
    for part in oldest_first:
        broken = min(spare, part.replicas - part.counted)
        if broken > 0:
            sizes[part.name] = part.replicas - broken
            spare -= broken
    not_needed = new.counted + sum(part.counted for part in old) - bounds.least
    for part in oldest_first:
        size = sizes.get(part.name, part.replicas)
        fewer = min(size, max(0, not_needed))
        if fewer > 0:
            sizes[part.name] = size - fewer
            not_needed -= fewer
    return sizes


def roll(new: Part, old: Sequence[Part], bounds: Bounds) -> Sizes:
    """The next step of a rolling update: the new one grows, or the old ones shrink; empty where none is to be taken."""
    size = grow(new, old, bounds)
    return {new.name: size} if size != new.replicas else shrink(new, old, bounds)


def proportional(parts: Sequence[Part], bounds: Bounds, statused: int) -> Sizes:
    """The sizes after the desired number changed in the middle of a rollout: what is added or taken away is spread over
    all in proportion to their sizes, and what rounding leaves goes to the largest.

    `statused` is how many Pods the Deployment last counted, for parts that do not know how large it was.
    """
    active = [part for part in parts if part.replicas > 0]
    allowed = bounds.most if bounds.desired > 0 else 0
    to_add = allowed - sum(part.replicas for part in active)
    if to_add > 0:
        # Of equals the newer first when growing, the older first when shrinking.
        ordered = sorted(sorted(active, key=lambda part: part.created, reverse=True), key=lambda part: -part.replicas)
    else:
        ordered = sorted(sorted(active, key=lambda part: part.created), key=lambda part: -part.replicas)
    sizes = {part.name: part.replicas for part in ordered}
    for part in ordered:
        share = _share(part, bounds, to_add, statused)
        sizes[part.name] += share
        to_add -= share
    for part in ordered:
        # What rounding leaves: to the largest, as far as it goes.
        share = max(to_add, -sizes[part.name])
        sizes[part.name] += share
        to_add -= share
    return sizes


def _share(part: Part, bounds: Bounds, left: int, statused: int) -> int:
    """What a part gets of what is left to add (or, negative, to take away): its share, and never the other way."""
    before = part.most_when_scaled or statused
    scaled = part.replicas * (bounds.most if bounds.desired else 0) / before if before else part.replicas
    # Go's math.Round: halves away from zero.
    fraction = math.floor(scaled + 0.5) - part.replicas
    return min(max(fraction, 0), left) if left > 0 else max(min(fraction, 0), left)


def is_saturated(new: Part, desired: int, wanted_when_scaled: int | None) -> bool:
    """Whether the new ReplicaSet alone does all that is asked for."""
    return wanted_when_scaled == desired == new.replicas == new.available


def to_delete(history: Sequence[Part], revisions: Mapping[str, int], limit: int) -> list[str]:
    """Which of the empty old ReplicaSets are beyond the history that is kept: the oldest revisions."""
    excess = len(history) - limit
    if excess <= 0:
        return []
    return [part.name for part in sorted(history, key=lambda part: (revisions.get(part.name, 0), part.created))][
        :excess
    ]

"""Which of several ways a unit goes: the same unit the same way, as long as the weights are the same.

A unit (a user, an account, whatever a client calls one) is hashed, with the name of what divides as salt, to a point
from 0 to 1; the ways divide that line by their weights, in their order. Two that divide under different names divide
the same units independently. Where one weight grows at its neighbour's cost, only units between the two change their
way.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

_SCALE = 1 / (1 << 53)


def key_of(salt: str) -> bytes:
    """The salt as the hash takes it."""
    return hashlib.blake2b(salt.encode(), digest_size=16).digest()


def point_of(key: bytes, unit: bytes) -> float:
    """From 0 to below 1, uniform over units: 53 bits of BLAKE2b."""
    digest = hashlib.blake2b(unit, digest_size=8, key=key).digest()
    return (int.from_bytes(digest, "little") >> 11) * _SCALE


class Shares:
    """Ways by weight. No way of weight 0 is gone.

    >>> shares = Shares("endpoint", [50, 0, 50])
    >>> {shares.at(0.0), shares.at(0.49), shares.at(0.5), shares.at(1.0)}
    {0, 2}
    >>> shares.of("a unit") == shares.of("a unit")
    True
    """

    __slots__ = ("_ends", "_key", "_last")

    def __init__(self, salt: str, weights: Sequence[int]) -> None:
        """Raises `ValueError` where all weights are 0."""
        total = sum(weights)
        if total <= 0:
            raise ValueError(f"expected a weight above 0, got {list(weights)}")
        self._key = key_of(salt)
        self._ends = [end / total for end in accumulate(weights)]
        self._last = max(index for index, weight in enumerate(weights) if weight)

    def of(self, unit: str) -> int:
        """The way of that unit."""
        return self.at(point_of(self._key, unit.encode("utf-8", "surrogatepass")))

    def at(self, point: float) -> int:
        """The way at a point from 0 to 1."""
        return min(bisect_right(self._ends, point), self._last)

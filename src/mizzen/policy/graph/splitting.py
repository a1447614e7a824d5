"""Which way a unit goes: the same unit the same way, as long as the weights are the same.

A unit (a user, an account, whatever a client calls one) is hashed, with the splitter's name as salt, to a point from 0
to 1; the ways divide that line by their weights, in their order. Two splitters with different names divide the same
units independently. Where one weight grows at its neighbour's cost, only units between the two change their way.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def point_of(salt: str, unit: bytes) -> float:
    """From 0 to below 1, uniform over units: 53 bits of BLAKE2b."""
    digest = hashlib.blake2b(unit, digest_size=8, key=hashlib.blake2b(salt.encode(), digest_size=16).digest()).digest()
    return (int.from_bytes(digest, "little") >> 11) / (1 << 53)


def ways(weights: Sequence[int], points: Sequence[float] | NDArray[np.float64]) -> NDArray[np.int64]:
    """For each point the way it goes; no way of weight 0 is gone."""
    ends = np.cumsum(np.asarray(weights, np.float64)) / sum(weights)
    found = np.searchsorted(ends, np.asarray(points, np.float64), side="right")
    last = max(index for index, weight in enumerate(weights) if weight)
    return np.minimum(found, last).astype(np.int64)

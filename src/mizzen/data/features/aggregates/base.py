"""What an aggregate is: partial results that are made from events, merged in any order, and finished into a value.

`prepare` makes a partial of each event, `merge` joins partials of disjoint events, `finalize` turns a partial into the
feature's value. `update` is `merge` with `prepare`. Every merge is commutative and associative (floating sums to the
last bits, sketches to their bound): an aggregate that depends on order, such as `last`, carries its times in the
partial and does not rely on the order of the merges. That is what makes backfill, increments in any order and online
reads one computation.

A partial is a row of a *state*: a tuple of arrays of one length, so that all is done for many requests at once. The
first array is the number of values that went in. `over` makes the states of many ranges of events; its default folds
along a binary tree (`fold.py`), which needs nothing but `merge` and never subtracts, so that an infinite or a huge
value leaves no trace once it is out of the window. Where the arithmetic is exact (counts, whole numbers, sums in fixed
point) differences of running totals are used instead; what can be taken out of a state for good is `subtractable`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from mizzen.data.features.columns import Array, Domain
from mizzen.data.features.fold import fold_of_each

State = tuple[Array, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """The values of one column that are there, by entity and time; a request sees a range of them."""

    time_us: Array
    known_us: Array
    value: Array
    starts: Array = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    """Where each entity's values begin, rising."""
    kept: dict[str, Any] = field(default_factory=dict)
    """What aggregates work out of the whole run, for the next window."""

    def __len__(self) -> int:
        return len(self.time_us)


@dataclass(frozen=True, slots=True)
class Asked:
    """The requests that states are finished for."""

    time_us: Array
    """When each was asked."""
    since_us: Array
    """Where its window begins (exclusive)."""


class Aggregate(ABC):
    """One way to sum up values; `domain` says what they are."""

    function: ClassVar[str]
    summed_as: ClassVar[str] = ""
    """The function whose partials it has, where that is another: only `finalize` differs."""
    subtractable: ClassVar[bool] = False
    """Whether the partial of what leaves a window can be taken out of it exactly."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain

    @property
    @abstractmethod
    def result_type(self) -> pa.DataType:
        """The type of the feature."""

    @abstractmethod
    def empty(self, n: int) -> State:
        """`n` partials of no event."""

    @abstractmethod
    def prepare(self, run: Run) -> State:
        """A partial of each event."""

    @abstractmethod
    def merge(self, a: State, b: State) -> State:
        """Partial by partial, what both saw."""

    @abstractmethod
    def finalize(self, state: State, asked: Asked) -> pa.Array:
        """The values."""

    def update(self, state: State, run: Run) -> State:
        """Partial by partial, with one more event each."""
        return self.merge(state, self.prepare(run))

    def subtract(self, total: State, part: State) -> State:
        """What `total` saw and `part` did not; only of a subtractable aggregate."""
        raise NotImplementedError(f"{self.function} cannot be subtracted")

    def over(self, run: Run, lo: Array, hi: Array) -> State:
        """The states of the events `lo[i]` to `hi[i]` (exclusive) of the run."""
        return fold_of_each(self.prepare(run), run.starts, lo, hi, self.merge, self.empty)

    def pack(self, state: State, rows: slice) -> list[Any]:
        """Some partials as plain values that msgpack can write."""
        return [array[rows].tolist() for array in state]

    def unpack(self, packed: list[Any]) -> State:
        """The partials that `pack` wrote."""
        return tuple(np.array(part, dtype=like.dtype) for part, like in zip(packed, self.empty(0), strict=True))


class OfObjects(Aggregate):
    """An aggregate whose partial is a Python object: a list, a set, a sketch.

    Objects are made from slices of values and joined; a long range is put together from blocks that are kept.
    """

    BLOCK = 1024
    """Values of the smallest block that is kept: making an object of that many is about as fast as joining two."""

    @abstractmethod
    def make(self, run: Run, start: int, stop: int) -> Any:
        """The object of some values, at least one."""

    @abstractmethod
    def join(self, a: Any, b: Any) -> Any:
        """The object of the values of both; may neither change `a` nor `b`."""

    def empty(self, n: int) -> State:
        return np.zeros(n, dtype=np.int64), np.full(n, None, dtype=object)

    def prepare(self, run: Run) -> State:
        made = np.empty(len(run), dtype=object)
        for index in range(len(run)):
            made[index] = self.make(run, index, index + 1)
        return np.ones(len(run), dtype=np.int64), made

    def merge(self, a: State, b: State) -> State:
        merged = np.where(a[0] > 0, a[1], b[1])
        for index in np.flatnonzero((a[0] > 0) & (b[0] > 0)):
            merged[index] = self.join(a[1][index], b[1][index])
        return a[0] + b[0], merged

    def over(self, run: Run, lo: Array, hi: Array) -> State:
        state = self.empty(len(lo))
        blocks: dict[tuple[int, int, int], Any] = {}
        last: tuple[int, int] | None = None
        origins = run.starts[np.searchsorted(run.starts, lo, side="right") - 1].tolist()
        for index, (start, stop, origin) in enumerate(zip(lo.tolist(), hi.tolist(), origins, strict=True)):
            if start < stop:
                same = last == (start, stop)
                state[1][index] = state[1][index - 1] if same else self._of_range(run, origin, start, stop, blocks)
            last = (start, stop)
        return np.maximum(hi - lo, 0), state[1]

    def _of_range(self, run: Run, origin: int, start: int, stop: int, blocks: dict[tuple[int, int, int], Any]) -> Any:
        """The object of a range; blocks are counted from `origin`, where the entity begins."""
        first, after = -(-(start - origin) // self.BLOCK), (stop - origin) // self.BLOCK
        if after - first < 2:
            return self.make(run, start, stop)
        begin, end = origin + first * self.BLOCK, origin + after * self.BLOCK
        parts = [self.make(run, start, begin)] if start < begin else []
        while first < after:  # the largest aligned block that fits, as often as one does
            level = min((first & -first).bit_length() - 1 if first else 62, (after - first).bit_length() - 1)
            parts.append(self._block(run, origin, level, first >> level, blocks))
            first += 1 << level
        if end < stop:
            parts.append(self.make(run, end, stop))
        joined = parts[0]
        for part in parts[1:]:
            joined = self.join(joined, part)
        return joined

    def _block(self, run: Run, origin: int, level: int, place: int, blocks: dict[tuple[int, int, int], Any]) -> Any:
        found = blocks.get((origin, level, place))
        if found is None:
            if level == 0:
                start = origin + place * self.BLOCK
                found = self.make(run, start, start + self.BLOCK)
            else:
                low = self._block(run, origin, level - 1, 2 * place, blocks)
                found = self.join(low, self._block(run, origin, level - 1, 2 * place + 1, blocks))
            blocks[origin, level, place] = found
        return found

    def pack(self, state: State, rows: slice) -> list[Any]:
        return [state[0][rows].tolist(), [None if one is None else self.dump(one) for one in state[1][rows]]]

    def unpack(self, packed: list[Any]) -> State:
        objects = np.empty(len(packed[1]), dtype=object)
        for index, one in enumerate(packed[1]):
            objects[index] = None if one is None else self.load(one)
        return np.array(packed[0], dtype=np.int64), objects

    @abstractmethod
    def dump(self, one: Any) -> Any:
        """The object as something that msgpack can write."""

    @abstractmethod
    def load(self, packed: Any) -> Any:
        """The object that `dump` wrote."""

    def column(self, state: State, value: Callable[[Any], Any], default: Any = None) -> list[Any]:
        """The value of each object; the default where there is none."""
        return [default if one is None else value(one) for one in state[1]]


class OfKValues(OfObjects):
    """One whose result is a list of k of the values."""

    def __init__(self, domain: Domain, k: int) -> None:
        super().__init__(domain)
        self.k = k

    @property
    def result_type(self) -> pa.DataType:
        return pa.list_(pa.float64() if pa.types.is_decimal(self.domain.type) else self.domain.type)

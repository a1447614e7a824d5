"""Folds of many ranges of one sequence at once, by merging alone.

The sequence becomes a binary tree, level by level: a node of level j is the merge of 2^j neighbours. Each range is the
merge of at most two nodes a level, so that a range of w events costs 2 log2(w) merges, and all ranges take each step
together. No step subtracts: the result is as exact as `merge` is.

The same in one line: the iterative segment tree (cp-algorithms, "Segment tree"), with arrays in the place of numbers.
"""

from collections.abc import Callable

import numpy as np

from mizzen.data.features.columns import Array

State = tuple[Array, ...]


def fold(
    leaves: State,
    lo: Array,
    hi: Array,
    merge: Callable[[State, State], State],
    empty: Callable[[int], State],
) -> State:
    """For each i, the merge of the leaves `lo[i]` to `hi[i]` (exclusive); `empty` where there are none."""
    left, right = np.minimum(lo, hi), hi.copy()
    result = empty(len(lo))
    nodes = leaves
    active = np.flatnonzero(left < right)
    while len(active):
        starts, stops = left[active], right[active]
        odd = (starts & 1) == 1
        _merge_in(result, active[odd], nodes, starts[odd], merge)
        odd_stop = ((stops & 1) == 1) & (stops > starts + odd)
        _merge_in(result, active[odd_stop], nodes, stops[odd_stop] - 1, merge)
        starts, stops = (starts + 1) >> 1, stops >> 1
        left[active], right[active] = starts, stops
        active = active[starts < stops]
        if len(active):
            nodes = _level_above(nodes, merge)
    return result


def fold_of_each(
    leaves: State,
    starts: Array,
    lo: Array,
    hi: Array,
    merge: Callable[[State, State], State],
    empty: Callable[[int], State],
) -> State:
    """The same of leaves of several entities, which begin at `starts`; no range reaches over two of them.

    Each entity begins where the tree does: at a multiple of the power of two that holds it. So the order of the merges,
    and with it their rounding, does not hang on whose leaves lie before.
    """
    if len(starts) <= 1:
        return fold(leaves, lo, hi, merge, empty)
    count = len(leaves[0])
    length = np.diff(starts, append=count)
    room = 1 << np.frexp(np.maximum(length - 1, 0))[1].astype(np.int64)
    largest_first = np.argsort(-room, kind="stable")
    base = np.empty(len(room), dtype=np.int64)
    base[largest_first] = np.concatenate(([0], np.cumsum(room[largest_first])[:-1]))
    places = np.arange(count) + np.repeat(base - starts, length)
    padded = empty(int(room.sum()))
    for part, leaf in zip(padded, leaves, strict=True):
        part[places] = leaf
    some = np.flatnonzero(lo < hi)
    first, after = np.zeros(len(lo), dtype=np.int64), np.zeros(len(lo), dtype=np.int64)
    first[some] = places[lo[some]]
    after[some] = first[some] + hi[some] - lo[some]
    return fold(padded, first, after, merge, empty)


def _merge_in(result: State, where: Array, nodes: State, which: Array, merge: Callable[[State, State], State]) -> None:
    if len(where):
        merged = merge(tuple(part[where] for part in result), tuple(part[which] for part in nodes))
        for part, new in zip(result, merged, strict=True):
            part[where] = new


def _level_above(nodes: State, merge: Callable[[State, State], State]) -> State:
    """Pairs merged; a node without a neighbour is in no range that reaches this level."""
    pairs = len(nodes[0]) // 2 * 2
    return merge(tuple(part[0:pairs:2] for part in nodes), tuple(part[1:pairs:2] for part in nodes))

"""The tier in memory, against a naive one; and an entry's form in the shared tiers."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serving.builders import UNHURRIED
from tests.serving.cache.builders import digest, entry

from mizzen.serving.gateway.cache.entry import packed, unpacked
from mizzen.serving.gateway.cache.memory import Memory


class Naive:
    """A list in order of use, looked through each time."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max, self.entries = bytes_max, []

    def get(self, key, now):
        for place, (found, kept) in enumerate(self.entries):
            if found == key:
                self.entries.append(self.entries.pop(place))
                if kept.expires_s > now:
                    return kept
                self.entries.pop()
        return None

    def put(self, key, kept):
        self.entries = [pair for pair in self.entries if pair[0] != key]
        if kept.size <= self.bytes_max:
            self.entries.append((key, kept))
        while sum(one.size for _, one in self.entries) > self.bytes_max:
            self.entries.pop(0)


steps = st.lists(
    st.tuples(st.sampled_from(["get", "put"]), st.integers(1, 6), st.integers(0, 1500), st.integers(1, 20)),
    max_size=60,
)


@UNHURRIED
@given(steps, st.integers(0, 6000))
def test_it_keeps_what_a_naive_one_keeps(steps, bytes_max):
    fast, naive, now = Memory(bytes_max), Naive(bytes_max), 0.0
    for what, number, size, seconds in steps:
        now += seconds
        if what == "put":
            made = entry(number, size=size, expires_s=now + 30)
            fast.put(digest(number), made)
            naive.put(digest(number), made)
        else:
            assert naive.get(digest(number), now) == fast.get(digest(number), now)
        assert (sum(one.size for _, one in naive.entries), len(naive.entries)) == (fast.bytes, len(fast))
        assert fast.bytes <= bytes_max


def test_a_version_swap_frees_what_the_old_one_answered():
    memory = Memory(1 << 20)
    memory.put(digest(1), entry(1, model="sha256:" + "1" * 64))
    memory.put(digest(2), entry(2, model="sha256:" + "2" * 64))
    memory.keep_models({"sha256:" + "2" * 64})
    assert memory.bytes == entry(2).size
    assert memory.get(digest(1), 0.0) is None
    assert memory.get(digest(2), 0.0) is not None


def test_a_smaller_one_gives_up_what_was_asked_for_least_recently():
    memory = Memory(1 << 20)
    for number in (1, 2, 3):
        memory.put(digest(number), entry(number))
    memory.get(digest(1), 0.0)
    memory.resize(2 * entry().size)
    assert [memory.get(digest(number), 0.0) is not None for number in (1, 2, 3)] == [True, False, True]
    assert memory.evicted == 1


def test_an_entry_comes_back_from_its_packed_form():
    assert unpacked(packed(entry(7))) == entry(7)
    assert unpacked(memoryview(packed(entry(7)))) == entry(7)


@pytest.mark.parametrize("seed", range(50))
def test_what_was_damaged_is_no_entry(seed):
    rng, good = random.Random(seed), bytearray(packed(entry(7)))
    good[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
    assert unpacked(bytes(good)) is None
    assert unpacked(bytes(good[: rng.randrange(len(good))])) is None

"""The cache against a plain dict: contents, reported changes and indexes agree after any sequence of operations."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.kube.cache import Cache
from mizzen.kube.resources import Key

KEYS = [Key("n", name) for name in "abcd"]
objects = st.dictionaries(st.sampled_from(KEYS), st.tuples(st.integers(0, 3), st.integers(1, 6).map(str)))
operations = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(KEYS), st.integers(0, 3), st.integers(1, 6).map(str)),
    st.tuples(st.just("remove"), st.sampled_from(KEYS), st.integers(1, 6).map(str) | st.just("")),
    st.tuples(st.just("replace"), objects, st.sets(st.sampled_from(KEYS), max_size=2)),
)


@given(st.lists(operations, max_size=30))
def test_contents_changes_and_indexes_agree_with_a_plain_dict(script: list[tuple[Any, ...]]) -> None:
    cache: Cache[int] = Cache()
    cache.add_index("parity", lambda value: ["even" if value % 2 == 0 else "odd"])
    plain: dict[Key, tuple[int, str]] = {}
    told: dict[Key, int] = {}
    for operation in script:
        match operation:
            case ("put", key, value, version):
                changes = [cache.put(key, value, version)]
                if int(plain.get(key, (0, "0"))[1]) < int(version):
                    plain[key] = (value, version)
            case ("remove", key, version):
                changes = [cache.remove(key, version)]
                if version == "" or int(plain.get(key, (0, "0"))[1]) <= int(version):
                    plain.pop(key, None)
            case ("replace", new, keep):
                changes = list(cache.replace(new, keep))
                kept = {key: plain[key] for key in keep if key in plain and key not in new}
                same = {key: plain[key] for key, (_, version) in new.items() if plain.get(key, (0, ""))[1] == version}
                plain = {**new, **kept, **same}
        for change in filter(None, changes):
            assert told.get(change.key) == change.old
            if change.new is None:
                del told[change.key]
            else:
                told[change.key] = change.new
        expected = {key: value for key, (value, _) in plain.items()}
        assert {key: cache.get(key) for key in cache.keys()} == expected  # noqa: SIM118 - a cache is no dict
        assert told == expected
        for name, parity in (("even", 0), ("odd", 1)):
            assert sorted(cache.by_index("parity", name)) == sorted(v for v in expected.values() if v % 2 == parity)


def test_an_index_added_later_knows_what_is_there_and_a_second_of_its_name_is_refused() -> None:
    cache: Cache[int] = Cache()
    cache.put(KEYS[0], 4, "1")

    def digits(value: int) -> list[str]:
        return list(str(value))

    cache.add_index("digits", digits)
    cache.add_index("digits", digits)
    assert list(cache.by_index("digits", "4")) == [4]
    with pytest.raises(ValueError, match="there already"):
        cache.add_index("digits", lambda value: [])

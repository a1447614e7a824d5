"""Sets of fields against Python's own sets of paths."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.local.apiserver.patch import fields
from mizzen.local.apiserver.patch.fields import FieldsError, FieldSet, Path

elements = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"s"'])
paths = st.lists(elements, min_size=1, max_size=3).map(tuple)
path_sets = st.sets(paths, max_size=6)


def of(members: set[Path]) -> FieldSet:
    return fields.from_paths(sorted(members))


def members_of(owned: FieldSet) -> set[Path]:
    return set(fields.paths(owned))


def well_formed(owned: FieldSet, *, root: bool = True) -> bool:
    """No node that only leads nowhere, no `.` alone, no `.` at the root."""
    if root:
        return "." not in owned and all(well_formed(node, root=False) for node in owned.values())
    return owned != {".": {}} and all(
        node == {} if element == "." else well_formed(node, root=False) for element, node in owned.items()
    )


@given(path_sets)
def test_a_set_is_its_paths(members: set[Path]) -> None:
    owned = of(members)
    assert members_of(owned) == members
    assert well_formed(owned)
    assert fields.parse(json.loads(json.dumps(owned))) == owned
    assert all(fields.covers(owned, path) for path in members)


@given(path_sets, paths)
def test_covers_only_members(members: set[Path], path: Path) -> None:
    assert fields.covers(of(members), path) == (path in members)


@given(path_sets, path_sets)
def test_algebra_is_that_of_sets(left: set[Path], right: set[Path]) -> None:
    """Union, intersection and difference, whose results are well-formed and equal however they came about."""
    one, other = of(left), of(right)
    for operation, expected in (
        (fields.union, left | right),
        (fields.intersection, left & right),
        (fields.difference, left - right),
    ):
        result = operation(one, other)
        assert members_of(result) == expected
        assert result == of(expected)
        assert well_formed(result)
    assert (one, other) == (of(left), of(right)), "sets are values"


@given(path_sets, path_sets)
def test_without_takes_what_lies_below(left: set[Path], right: set[Path]) -> None:
    expected = {path for path in left if not any(path[: len(taken)] == taken for taken in right)}
    assert fields.without(of(left), of(right)) == of(expected)


def test_order_is_that_of_kubernetes() -> None:
    """Fields by name, elements by their keys, numbers as numbers; members of a level before those below."""
    owned = of(
        {
            ("f:ports", 'k:{"port":9}'),
            ("f:ports", 'k:{"port":80}', "f:port"),
            ("f:ports", 'k:{"port":443}'),
            ("f:name",),
            ("f:set", "v:10"),
            ("f:set", "v:9"),
            ("f:set", 'v:"a"'),
        }
    )
    assert list(fields.ordered(owned)["f:ports"]) == ['k:{"port":9}', 'k:{"port":80}', 'k:{"port":443}']
    assert [fields.path_text(path) for path in fields.paths(owned)] == [
        ".name",
        ".ports[port=9]",
        ".ports[port=443]",
        ".ports[port=80].port",
        ".set[=9]",
        ".set[=10]",
        '.set[="a"]',
    ]


def test_a_clients_spelling_of_an_element_does_not_matter() -> None:
    """Two texts of one element are one element."""
    written = {"f:ports": {'k:{ "protocol": "TCP", "port": 80.0 }': {}}, "f:set": {"v: 1.0": {}, 'v:"é"': {}}}
    assert fields.parse(written) == {
        "f:ports": {'k:{"port":80,"protocol":"TCP"}': {}},
        "f:set": {"v:1": {}, 'v:"é"': {}},
    }


@pytest.mark.parametrize(
    "document", [{"spec": {}}, {"f:a": 1}, {"k:{": {}}, {"v:x": {}}, {"i:x": {}}, {"k:[]": {}}, []]
)
def test_what_is_no_set_is_refused(document: object) -> None:
    with pytest.raises(FieldsError, match="expected"):
        fields.parse(document)

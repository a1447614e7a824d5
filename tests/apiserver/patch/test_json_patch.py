"""JSON Patch: the RFC's own examples, Kubernetes' departures from it, and a naive interpreter on generated patches."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.local.apiserver.errors import BadRequest, Invalid, TooLarge
from mizzen.local.apiserver.patch import json_patch

RFC_6902 = {
    "A.1 adding an object member": (
        {"foo": "bar"},
        [{"op": "add", "path": "/baz", "value": "qux"}],
        {"baz": "qux", "foo": "bar"},
    ),
    "A.2 adding an array element": (
        {"foo": ["bar", "baz"]},
        [{"op": "add", "path": "/foo/1", "value": "qux"}],
        {"foo": ["bar", "qux", "baz"]},
    ),
    "A.3 removing an object member": (
        {"baz": "qux", "foo": "bar"},
        [{"op": "remove", "path": "/baz"}],
        {"foo": "bar"},
    ),
    "A.4 removing an array element": (
        {"foo": ["bar", "qux", "baz"]},
        [{"op": "remove", "path": "/foo/1"}],
        {"foo": ["bar", "baz"]},
    ),
    "A.5 replacing a value": (
        {"baz": "qux", "foo": "bar"},
        [{"op": "replace", "path": "/baz", "value": "boo"}],
        {"baz": "boo", "foo": "bar"},
    ),
    "A.6 moving a value": (
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    "A.7 moving an array element": (
        {"foo": ["all", "grass", "cows", "eat"]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    "A.8 testing a value: success": (
        {"baz": "qux", "foo": ["a", 2, "c"]},
        [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
        {"baz": "qux", "foo": ["a", 2, "c"]},
    ),
    "A.10 adding a nested member object": (
        {"foo": "bar"},
        [{"op": "add", "path": "/child", "value": {"grandchild": {}}}],
        {"foo": "bar", "child": {"grandchild": {}}},
    ),
    "A.11 ignoring unrecognised elements": (
        {"foo": "bar"},
        [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}],
        {"foo": "bar", "baz": "qux"},
    ),
    "A.14 escape ordering": (
        {"/": 9, "~1": 10},
        [{"op": "test", "path": "/~01", "value": 10}],
        {"/": 9, "~1": 10},
    ),
    "A.16 adding an array value": (
        {"foo": ["bar"]},
        [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}],
        {"foo": ["bar", ["abc", "def"]]},
    ),
}


@pytest.mark.parametrize("name", RFC_6902)
def test_rfc_examples(name: str) -> None:
    document, operations, expected = RFC_6902[name]
    before = copy.deepcopy(document)
    assert json_patch.apply(document, operations) == expected
    assert document == before


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param({"op": "test", "path": "/baz", "value": "bar"}, id="A.9 test fails"),
        pytest.param({"op": "add", "path": "/no/bat", "value": "qux"}, id="A.12 no such target"),
        pytest.param({"op": "test", "path": "/number", "value": "10"}, id="A.15 a number is not its text"),
        pytest.param({"op": "test", "path": "/number", "value": True}, id="a number is no boolean"),
        pytest.param({"op": "remove", "path": "/absent"}, id="remove what is not there"),
        pytest.param({"op": "remove", "path": "/list/3"}, id="remove behind the end"),
        pytest.param({"op": "remove", "path": "/list/-"}, id="the end is not an element"),
        pytest.param({"op": "add", "path": "/list/4", "value": 1}, id="insert behind the end"),
        pytest.param({"op": "add", "path": "/list/-5", "value": 1}, id="insert before the beginning"),
        pytest.param({"op": "replace", "path": "/list/x", "value": 1}, id="no index"),
        pytest.param({"op": "add", "path": "/baz/deeper", "value": 1}, id="into a string"),
        pytest.param({"op": "add", "path": "", "value": {}}, id="add the whole document"),
        pytest.param({"op": "replace", "path": "", "value": []}, id="an object becomes a list"),
        pytest.param({"op": "add", "path": "baz", "value": 1}, id="no leading slash"),
        pytest.param({"op": "add", "value": 1}, id="no path"),
        pytest.param({"op": "move", "path": "/a"}, id="no from"),
        pytest.param({"op": "bogus", "path": "/a"}, id="no such operation"),
        pytest.param({"op": ["add"], "path": "/a"}, id="an operation that is a list"),
        pytest.param({"path": "/a"}, id="no operation"),
    ],
)
def test_what_does_not_apply_is_unprocessable(operation: dict) -> None:
    """The answer is 422 and names no cause, word for word as Kubernetes answers."""
    document = {"baz": "qux", "number": 10, "list": [1, 2]}
    with pytest.raises(Invalid, match="the server rejected our request due to an error in our request"):
        json_patch.apply(document, [{"op": "add", "path": "/list/-", "value": 3}, operation])
    assert document == {"baz": "qux", "number": 10, "list": [1, 2]}


@pytest.mark.parametrize("patch", [{"op": "remove"}, [3], "[]", None, [["add"]]])
def test_what_is_no_list_of_operations_is_a_bad_request(patch: object) -> None:
    with pytest.raises(BadRequest, match="error decoding patch"):
        json_patch.apply({}, patch)


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        pytest.param([{"op": "replace", "path": "/new", "value": 1}], {"a": [1, 2], "new": 1}, id="replace adds"),
        pytest.param([{"op": "copy", "from": "/absent", "path": "/b"}], {"a": [1, 2], "b": None}, id="copy nothing"),
        pytest.param([{"op": "test", "path": "/absent", "value": None}], {"a": [1, 2]}, id="absent is null"),
        pytest.param([{"op": "add", "path": "/a/-1", "value": 3}], {"a": [1, 2, 3]}, id="-1 is behind the last"),
        pytest.param([{"op": "replace", "path": "/a/-1", "value": 3}], {"a": [1, 3]}, id="-1 is the last"),
        pytest.param([{"op": "replace", "path": "", "value": {"b": 1}}], {"b": 1}, id="another document"),
    ],
)
def test_departures_of_kubernetes(operations: list, expected: dict) -> None:
    assert json_patch.apply({"a": [1, 2]}, operations) == expected


def test_too_many_operations() -> None:
    operations = [{"op": "test", "path": "/a", "value": None}] * 10_001
    with pytest.raises(TooLarge, match=r"maximum operations in a JSON patch is 10000, got 10001"):
        json_patch.apply({}, operations)
    assert json_patch.apply({}, operations[:10_000]) == {}


def test_copies_cannot_grow_a_document_without_end() -> None:
    """Doubling by copies stops at the bound, long before memory does."""
    doubling = [{"op": "copy", "from": "/a", "path": f"/a/k{index}"} for index in range(64)]
    with pytest.raises(Invalid):
        json_patch.apply({"a": {"text": "x" * 1024}}, doubling)


# A naive interpreter, in place on a copy.

names = st.sampled_from(["a", "b", "~", "/", "m~n/o"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["x", "y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
documents = st.dictionaries(names, values, max_size=4)


def pointers(document: object, prefix: str = "") -> list[str]:
    """All places of a document."""
    found = []
    members = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for name, value in members:
        path = f"{prefix}/{str(name).replace('~', '~0').replace('/', '~1')}"
        found += [path, *pointers(value, path)]
    return found


def naive(document: object, operation: dict) -> None:
    def place(pointer: str) -> tuple[object, object]:
        tokens = [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]
        container = document
        for token in tokens[:-1]:
            container = container[int(token) if isinstance(container, list) else token]
        return container, int(tokens[-1]) if isinstance(container, list) else tokens[-1]

    def insert(pointer: str, value: object) -> None:
        container, key = place(pointer)
        if isinstance(container, list):
            container.insert(key, value)
        else:
            container[key] = value

    container, key = place(operation.get("from", operation["path"]))
    match operation["op"]:
        case "add":
            insert(operation["path"], operation["value"])
        case "remove":
            del container[key]
        case "replace":
            container[key] = operation["value"]
        case "copy":
            insert(operation["path"], copy.deepcopy(container[key]))
        case "move":
            value = container[key]
            del container[key]
            insert(operation["path"], value)


@given(document=documents, data=st.data())
def test_agrees_with_a_naive_interpreter(document: dict, data: st.DataObject) -> None:
    """Any series of operations that apply gives what doing them in place gives, and leaves the argument alone."""
    before, expected, operations = copy.deepcopy(document), copy.deepcopy(document), []
    for _ in range(data.draw(st.integers(0, 4))):
        places = pointers(expected)
        if not places:
            break
        path = data.draw(st.sampled_from(places))
        kind = data.draw(st.sampled_from(["add", "remove", "replace", "copy", "move"]))
        operation: dict = {"op": kind, "path": path}
        if kind in {"add", "replace"}:
            operation["value"] = data.draw(values)
        elif kind in {"copy", "move"}:
            operation["from"] = path
            without = copy.deepcopy(expected)
            if kind == "move":
                naive(without, {"op": "remove", "path": path})
            operation["path"] = data.draw(st.sampled_from([*pointers(without), "/fresh"]))
        naive(expected, operation)
        operations.append(copy.deepcopy(operation))
    assert json_patch.apply(document, operations) == expected
    assert document == before

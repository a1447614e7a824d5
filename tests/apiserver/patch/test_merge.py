"""JSON Merge Patch: the RFC's appendix and its pseudo-code."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.local.apiserver.errors import BadRequest
from mizzen.local.apiserver.patch import merge

RFC_7386 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("document", "patch", "expected"), RFC_7386)
def test_rfc_examples(document: dict, patch: dict, expected: dict) -> None:
    assert merge.apply(document, patch) == expected


@pytest.mark.parametrize("patch", [[1], "x", None, 3])
def test_a_patch_that_is_no_object_would_replace_the_object(patch: object) -> None:
    with pytest.raises(BadRequest, match="error decoding patch"):
        merge.apply({"a": 1}, patch)


values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


def pseudo_code(target: Any, patch: Any) -> Any:
    """RFC 7386, section 2, line by line."""
    if isinstance(patch, dict):
        if not isinstance(target, dict):
            target = {}
        for name, value in patch.items():
            if value is None:
                if name in target:
                    del target[name]
            else:
                target[name] = pseudo_code(target.get(name), value)
        return target
    return patch


@given(document=documents, patch=documents)
def test_agrees_with_the_pseudo_code(document: dict, patch: dict) -> None:
    """And applying a patch twice is applying it once; the arguments stay as they were."""
    kept = copy.deepcopy((document, patch))
    result = merge.apply(document, patch)
    assert result == pseudo_code(copy.deepcopy(document), copy.deepcopy(patch))
    assert merge.apply(result, patch) == result
    assert (document, patch) == kept

"""Selectors as Kubernetes documents them."""

from typing import Any

import pytest

from mizzen.local.cluster.selectors import is_empty, matches, matches_labels, matches_node_selector

LABELS = {"app": "web", "tier": "front", "size": "10"}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "no": "no"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["api", "web"]}]}, True),
        ({"matchExpressions": [{"key": "none", "operator": "In", "values": ["api"]}]}, False),
        ({"matchExpressions": [{"key": "none", "operator": "NotIn", "values": ["api"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
        ({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "Unheard"}]}, False),
    ],
)
def test_label_selectors(selector: Any, selected: bool) -> None:
    assert matches(selector, LABELS) == selected


def test_plain_maps_and_emptiness() -> None:
    assert matches_labels(None, {})
    assert matches_labels({"app": "web"}, LABELS)
    assert not matches_labels({"app": "api"}, LABELS)
    assert is_empty(None)
    assert is_empty({"matchLabels": {}})
    assert not is_empty({"matchLabels": {"a": "b"}})


def _size(operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": "size", "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("terms", "selected"),
    [
        ([], False),
        ([{}], False),
        ([_size("Gt", "9")], True),
        ([_size("Gt", "10")], False),
        ([_size("Lt", "11")], True),
        ([_size("Gt", "many")], False),
        ([_size("Gt", "1", "2")], False),
        ([_size("Gt", "99"), _size("Lt", "99")], True),
        ([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}], True),
        ([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}], False),
    ],
)
def test_node_selectors(terms: Any, selected: bool) -> None:
    assert matches_node_selector(terms, LABELS, "n1") == selected

"""Label selectors, as `metav1.LabelSelector` and as plain maps, and node selectors."""

from collections.abc import Iterable, Mapping
from typing import Any


def matches_labels(wanted: Mapping[str, str] | None, labels: Mapping[str, str]) -> bool:
    """Whether all wanted labels are there with these values; no wish is met by all."""
    return all(labels.get(key) == value for key, value in (wanted or {}).items())


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a `metav1.LabelSelector` selects these labels: an absent one selects nothing, an empty one everything."""
    if selector is None:
        return False
    expressions = selector.get("matchExpressions") or ()
    return matches_labels(selector.get("matchLabels"), labels) and all(_holds(one, labels) for one in expressions)


def is_empty(selector: Mapping[str, Any] | None) -> bool:
    """Whether a selector selects everything."""
    return not ((selector or {}).get("matchLabels") or (selector or {}).get("matchExpressions"))


def matches_node_selector(terms: Iterable[Mapping[str, Any]], labels: Mapping[str, str], name: str) -> bool:
    """Whether one of the terms of a `v1.NodeSelector` holds: terms are alternatives, what a term asks for must all be.

    An empty term selects nothing.
    """
    fields = {"metadata.name": name}
    for term in terms:
        expressions, on_fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
        if (expressions or on_fields) and (
            all(_holds(one, labels) for one in expressions) and all(_holds(one, fields) for one in on_fields)
        ):
            return True
    return False


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            return _compares(value, values, greater=operator == "Gt")
    return False


def _compares(value: str | None, values: Iterable[str], *, greater: bool) -> bool:
    try:
        have, (bound,) = int(value or ""), (int(one) for one in values)
    except ValueError:
        return False
    return have > bound if greater else have < bound

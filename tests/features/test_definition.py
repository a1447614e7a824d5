"""Definitions: what is refused and in which words, what a version is, what an expression may read."""

from pathlib import Path
from typing import Any

import pytest
from tests.features.builders import defined, view

from mizzen.data.features.definition import as_label, definition_of, expect_no_circle, type_named
from mizzen.data.features.errors import DefinitionError
from mizzen.kinds import FeatureView
from mizzen.kinds.manifests import load

MANIFEST = """
apiVersion: mizzen.dev/v1alpha1
kind: FeatureView
metadata: {name: spending}
spec:
  entities: [card]
  source: {dataset: payments}
  eventTime: paid_at
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  aggregations: [{name: num, function: count, window: 0s}]", "expected windows longer than nothing, got"),
        ("  aggregations: [{name: num, function: count, window: 1h, hop: 2h}]", "expected a hop above 0 and at most the window 1h, found 2h"),
        ("  aggregations: [{name: num, function: count, window: 1h, hop: 0s}]", "expected a hop above 0"),
        ("  aggregations: [{name: num, function: count, windows: [60m, 1h]}]", "expected windows that differ"),
        ("  aggregations: [{name: num, function: sum, window: 1h}]", "expected a column or an expression for sum"),
        ("  aggregations: [{name: num, function: rate}]", "expected a window for rate"),
        ("  aggregations: [{name: num, function: last_k, column: x}]", "expected k for last_k and top_k"),
        ("  aggregations: [{name: num, function: count, k: 3}]", "expected k for last_k and top_k"),
        ("  aggregations: [{name: num, function: quantile, column: x}]", "expected quantile (from 0 to 1)"),
        ("  aggregations: [{name: num, function: average, column: x}]", "function: expected one of count, rate, sum, mean"),
        ("  columns: [a, a]", "expected names that differ, found a more than once"),
        ("  columns: [card]", "expected names that differ, found card more than once"),
        ("", "expected features: columns, aggregations or request"),
        ("  columns: [a]\n  uses: [spending]", "expected other views than spending itself"),
        ("  columns: [a]\n  ttl: 0s", "ttl: expected longer than nothing"),
        ("  columns: [{name: a, type: decimal}]", "type"),
        ("  request: [{name: a, function: 'm:f', inputs: [a]}]", "a: expected other inputs than itself"),
    ],
)  # fmt: skip
def test_a_manifest_that_cannot_mean_anything_is_refused(text: str, expected: str) -> None:
    """The message names the field, what was expected and what was found."""
    with pytest.raises(Exception) as caught:
        load(MANIFEST + text + "\n", "a.yaml")
    assert expected.replace(", got", "") in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("sum(amount)", "found the function sum"),
        ("random()", "found the function random"),
        ("now()", "found the function now"),
        ("amount + (SELECT 1)", "found a subquery"),
        ("row_number() OVER ()", "found a window function"),
        ("amount +", "expected SQL over one row"),
        ("1; DROP TABLE x", "expected"),
        ("amount) FROM x; --", "expected"),
        ("*", "expected an expression over one row, found a star"),
    ],
)
def test_an_expression_reads_its_row_and_nothing_else(expression: str, expected: str) -> None:
    with pytest.raises(DefinitionError, match="FeatureView spending: x") as caught:
        defined(columns=[{"name": "x", "expression": expression}])
    assert expected in str(caught.value)


def test_a_version_is_of_what_decides_the_values() -> None:
    """Words and owners do not change it; a window, a filter and an order of columns do."""
    aggregation = {"name": "n", "function": "count", "window": "1h"}
    asked = {"name": "r", "function": "spending:ratio", "inputs": ["n"]}
    base = defined(aggregations=[aggregation])
    same = defined(
        aggregations=[{**aggregation, "description": "how often"}], owner="ada", tags={"a": "b"}, online=False
    )
    assert base.version == same.version
    others: list[dict[str, Any]] = [
        {"aggregations": [{**aggregation, "window": "2h"}]},
        {"aggregations": [{**aggregation, "where": "amount > 0"}]},
        {"aggregations": [aggregation], "ttl": "1d"},
        {"aggregations": [aggregation], "timeZone": "UTC"},
        {"aggregations": [aggregation], "uses": ["other"]},
        {"aggregations": [aggregation], "request": [asked], "code": "sha256:" + "0" * 64},
        {"aggregations": [aggregation], "request": [asked], "code": "sha256:" + "1" * 64},
    ]
    versions = {defined(**spec).version for spec in others} | {base.version}
    assert len(versions) == len(others) + 1
    without_functions = defined(aggregations=[aggregation], code="sha256:" + "0" * 64)
    assert without_functions.version == base.version


def test_a_version_is_of_the_views_it_uses_too() -> None:
    """The same words over another view are another version."""
    spec = view(uses=["other"], columns=["amount"])
    versions = {definition_of(spec, {"other": digest}).version for digest in ("sha256:a", "sha256:b")}
    assert len(versions) == 2


def test_views_in_a_circle_are_refused() -> None:
    views = {name: defined(name, uses=[used], columns=["x"]) for name, used in (("a", "b"), ("b", "c"), ("c", "a"))}
    with pytest.raises(DefinitionError, match="expected no view that refers to itself, found a -> b -> c -> a"):
        expect_no_circle(views)
    views["c"] = defined("c", columns=["x"])
    assert expect_no_circle(views) == ["c", "b", "a"]
    del views["c"]
    with pytest.raises(DefinitionError, match="FeatureView b: expected a view named c, found none"):
        expect_no_circle(views)


def test_request_features_come_in_the_order_of_their_needs() -> None:
    request = [
        {"name": "b", "function": "m:f", "inputs": ["a", "x"]},
        {"name": "a", "function": "m:f", "inputs": ["x"]},
    ]
    assert [feature.name for feature in defined(request=request).request] == ["a", "b"]
    request[1]["inputs"] = ["b"]
    with pytest.raises(DefinitionError, match="expected no feature that needs itself, found b -> a -> b"):
        defined(request=request)


def test_a_zone_that_is_none_is_refused() -> None:
    with pytest.raises(DefinitionError, match="expected a time zone such as UTC or Europe/Paris, found 'Mars'"):
        defined(columns=["x"], timeZone="Mars")


def test_only_windows_can_look_ahead() -> None:
    with pytest.raises(DefinitionError, match="found x"):
        as_label(defined(columns=["x"]))
    with pytest.raises(DefinitionError, match="found n"):
        as_label(defined(aggregations=[{"name": "n", "function": "count"}]))


def test_types_by_name() -> None:
    assert str(type_named("vector(float32, 3)")) == "fixed_size_list<item: float>[3]"
    assert str(type_named("list(text)")) == "list<item: string>"
    with pytest.raises(DefinitionError, match="found 'decimal'"):
        type_named("decimal")


def test_windows_make_features_of_their_own() -> None:
    spec = view(aggregations=[{"name": "n", "function": "count", "windows": ["1h", "7d"]}]).spec
    assert spec.feature_names() == ["n_1h", "n_7d"]
    assert definition_of(view(aggregations=[{"name": "n", "function": "count", "windows": ["1h", "7d"]}])).stored == (
        "n_1h",
        "n_7d",
    )


def test_the_example_of_the_documentation_is_a_view() -> None:
    """docs/features.md shows a manifest that is read, with the features it says."""
    text = (Path(__file__).parents[2] / "docs" / "features.md").read_text()
    manifest = text.split("```yaml\n")[1].split("```")[0]
    (read,) = load(manifest, "features.md")
    assert isinstance(read.resource, FeatureView)
    stored = definition_of(read.resource).stored
    assert stored == ("ceiling", "used", "spent_1h", "spent_24h", "spent_7d", "abroad", "usual", "shops", "quiet")

"""Quantities have one form, and it is Kubernetes'."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.kinds.scalars import quantity
from mizzen.local.apiserver.strategies.pods import canonical_spec, qos_class
from mizzen.local.apiserver.strategies.quantities import canonical


@pytest.mark.parametrize(
    ("given_form", "stored"),
    [
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("0.5", "500m"),
        ("0.0001", "100u"),
        (2, "2"),
        (0.25, "250m"),
        ("1024Mi", "1Gi"),
        ("1536Mi", "1536Mi"),
        ("1.5Gi", "1536Mi"),
        ("1024", "1024"),
        ("1000", "1k"),
        ("1000k", "1M"),
        ("0", "0"),
        ("0Mi", "0"),
        ("-1000m", "-1"),
        ("1e3", "1e3"),
        ("1E3", "1e3"),
        ("1500e-3", "1500e-3"),
        ("+5", "5"),
        ("1Ei", "1Ei"),
        ("0.1n", "1n"),
        ("2Ki", "2Ki"),
        ("0.5Ki", "512"),
        ("abc", "abc"),
        ("", ""),
        (None, None),
        (True, True),
    ],
)
def test_the_stored_form(given_form: object, stored: object) -> None:
    assert canonical(given_form) == stored


numbers = st.decimals(min_value=-(10**9), max_value=10**9, places=3).map(str)
suffixes = st.sampled_from(["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "E2", "e-2"])


@given(numbers, suffixes)
def test_the_form_changes_and_the_amount_does_not(number: str, suffix: str) -> None:
    """To the nano, beyond which Kubernetes rounds up; and the stored form of a stored form is itself."""
    stored = canonical(number + suffix)
    assert isinstance(stored, str)
    assert abs(quantity(stored) - quantity(number + suffix)) < quantity("1n")
    assert canonical(stored) == stored


def test_every_amount_of_a_pod() -> None:
    spec = {
        "containers": [{"resources": {"limits": {"cpu": "2000m"}, "requests": {"memory": "1024Ki"}}}, {}],
        "initContainers": [{"resources": {"limits": {"cpu": "0.1"}}}],
        "overhead": {"cpu": "1000m"},
        "volumes": [{"emptyDir": {"sizeLimit": "1024Mi"}}, {"emptyDir": {}}],
    }
    assert canonical_spec(spec) == {
        "containers": [{"resources": {"limits": {"cpu": "2"}, "requests": {"memory": "1Mi"}}}, {}],
        "initContainers": [{"resources": {"limits": {"cpu": "100m"}}}],
        "overhead": {"cpu": "1"},
        "volumes": [{"emptyDir": {"sizeLimit": "1Gi"}}, {"emptyDir": {}}],
    }


def container(limits: dict[str, str] | None = None, requests: dict[str, str] | None = None) -> dict[str, object]:
    return {"resources": {"limits": limits or {}, "requests": requests or {}}}


BOTH = {"cpu": "1", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ([container()], "BestEffort"),
        ([container(BOTH, BOTH)], "Guaranteed"),
        ([container(BOTH, {"cpu": "1000m", "memory": "1024Mi"})], "Guaranteed"),
        ([container(BOTH, BOTH), container()], "Burstable"),
        ([container({"cpu": "1"}, {"cpu": "1"})], "Burstable"),
        ([container(None, {"cpu": "1"})], "Burstable"),
        ([container({"cpu": "0"})], "BestEffort"),
        ([container({"example.com/gpu": "1"}, {"example.com/gpu": "1"})], "BestEffort"),
    ],
)
def test_quality_of_service(containers: list[object], expected: str) -> None:
    assert qos_class({"containers": containers}) == expected
    assert qos_class({"containers": [container(BOTH, BOTH)], "initContainers": containers}) == (
        "Guaranteed" if expected == "Guaranteed" else "Burstable"
    )

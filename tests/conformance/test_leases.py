"""Leases: small, validated, and good enough to elect one leader."""

import pytest

from .client import Refused, Resource, refused
from .objects import lease
from .surroundings import Namespace


@pytest.fixture
def leases(ns: Namespace) -> Resource:
    return ns("coordination.k8s.io/v1/leases")


def test_times_have_microseconds(leases: Resource) -> None:
    """acquireTime and renewTime keep six digits."""
    spec = {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "leaseTransitions": 0,
        "acquireTime": "2026-01-02T03:04:05.123456Z",
        "renewTime": "2026-01-02T03:04:05.000000Z",
    }
    assert leases.create(lease("one", **spec))["spec"] == spec
    assert leases.get("one")["spec"] == spec


def test_times_are_microtimes(leases: Resource) -> None:
    """A time without the six digits does not decode."""
    with refused(400, "BadRequest"):
        leases.create(lease("one", renewTime="2026-01-02T03:04:05Z"))


@pytest.mark.parametrize(
    ("spec", "field"),
    [({"leaseDurationSeconds": 0}, "spec.leaseDurationSeconds"), ({"leaseTransitions": -1}, "spec.leaseTransitions")],
    ids=["duration", "transitions"],
)
def test_numbers_are_checked(leases: Resource, spec, field: str) -> None:
    """A duration is positive, transitions are not negative."""
    with refused(422, "Invalid") as error:
        leases.create(lease("one", **spec))
    assert error.causes == [(field, "FieldValueInvalid")]


def test_an_update_may_create(leases: Resource) -> None:
    """A Lease may be created by an update of its name; an update of one that is there needs its version."""
    made = leases.replace(lease("one", holderIdentity="me"))
    assert made["spec"] == {"holderIdentity": "me"}
    with refused(422, "Invalid", "must be specified for an update"):
        leases.replace(lease("one", holderIdentity="you"))


def test_only_one_takes_a_lease(leases: Resource) -> None:
    """Of many who read the same lease and update it, one succeeds: that is what leader election stands on."""
    seen = leases.create(lease("one", holderIdentity="", leaseDurationSeconds=15))
    outcomes = []
    for number in range(5):
        try:
            leases.replace(seen | {"spec": {"holderIdentity": f"candidate-{number}", "leaseDurationSeconds": 15}})
            outcomes.append(200)
        except Refused as error:
            outcomes.append(error.code)
    assert outcomes == [200, 409, 409, 409, 409]
    assert leases.get("one")["spec"]["holderIdentity"] == "candidate-0"

"""A ReplicaSet makes and deletes exactly what is missing or too much, and deletes what is least missed first."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.kube.errors import ApiError
from mizzen.local.cluster.objects import ReplicaSet
from mizzen.local.cluster.workloads.making import make_in_growing_batches
from mizzen.local.cluster.workloads.replicas import DELETION_COST, Failure, adjust, next_available_s, status
from mizzen.local.cluster.workloads.template_hash import HASH_LABEL, same_template, template_hash

from .builders import NOW, at, condition, pod

pods = st.lists(
    st.builds(
        pod,
        node=st.sampled_from(["", "a", "b"]),
        phase=st.sampled_from(["Pending", "Running", "Succeeded", "Failed"]),
        ready=st.booleans(),
        deleted=st.booleans(),
    ),
    max_size=12,
)


def replica_set(**status_: Any) -> Any:
    template = {"metadata": {"labels": {"app": "a"}}}
    return ReplicaSet({"metadata": {"generation": 4}, "spec": {"template": template}, "status": status_})


@given(st.integers(0, 15), pods)
def test_the_active_pods_become_as_many_as_were_asked_for(replicas: int, there: list[Any]) -> None:
    active = [
        one
        for one in there
        if one["status"]["phase"] in {"Pending", "Running"} and "deletionTimestamp" not in one["metadata"]
    ]
    adjustment = adjust(replicas, there, there)
    assert len(active) + adjustment.create - len(adjustment.delete) == replicas
    assert not (adjustment.create and adjustment.delete)
    assert all(one in active for one in adjustment.delete)


EXPENDABLE_FIRST = [
    ("bound to no node", pod(), pod(node="a")),
    ("pending", pod(node="a"), pod(node="a", phase="Running")),
    ("not ready", pod(node="a", phase="Running"), pod(node="a", phase="Running", ready=True)),
    ("of lower deletion cost", pod(node="a", phase="Running", ready=True, annotations={DELETION_COST: "-1"}),
     pod(node="a", phase="Running", ready=True)),
    ("ready for a shorter time", pod(node="a", phase="Running", ready=True, ready_since=at(60)),
     pod(node="a", phase="Running", ready=True, ready_since=NOW)),
    ("restarted more often", pod(node="a", phase="Running", ready=True, status={"containerStatuses": [{"restartCount": 3}]}),
     pod(node="a", phase="Running", ready=True)),
    ("younger", pod(node="a", phase="Running", ready=True, created=at(60)), pod(node="a", phase="Running", ready=True)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("expendable", "kept"), [case[1:] for case in EXPENDABLE_FIRST], ids=[case[0] for case in EXPENDABLE_FIRST]
)
def test_which_pod_goes_first(expendable: Any, kept: Any) -> None:
    assert adjust(1, [kept, expendable], []).delete == (expendable,)
    assert adjust(1, [expendable, kept], []).delete == (expendable,)


def test_of_two_alike_the_one_on_the_fuller_node_goes() -> None:
    alone, crowded = (pod(node=where, phase="Running", ready=True) for where in "ab")
    siblings = [pod(node="b", phase="Running", ready=True) for _ in range(3)]
    assert adjust(1, [alone, crowded], [alone, crowded, *siblings]).delete == (crowded,)


def test_a_deletion_cost_that_is_no_number_counts_nothing() -> None:
    odd = pod(node="a", phase="Running", ready=True, annotations={DELETION_COST: "much"}, created=at(1))
    assert adjust(1, [odd, pod(node="a", phase="Running", ready=True)], []).delete == (odd,)


def test_the_status_counts_what_is_there() -> None:
    there = [
        pod(phase="Running", ready=True, ready_since=at(-100), labels={"app": "a"}),
        pod(phase="Running", ready=True, ready_since=at(-5), labels={"app": "a", "more": "x"}),
        pod(phase="Running"),
        pod(phase="Failed"),
        pod(phase="Running", deleted=True),
    ]
    one = replica_set()
    one["spec"]["minReadySeconds"] = 30
    assert status(one, there, None, NOW) == {
        "replicas": 3, "fullyLabeledReplicas": 2, "readyReplicas": 2, "availableReplicas": 1, "terminatingReplicas": 1,
        "observedGeneration": 4,
    }  # fmt: skip
    assert next_available_s(there, 30, NOW) == 25
    assert next_available_s(there, 0, NOW) is None


def test_a_failure_is_a_condition_until_it_is_over() -> None:
    failure = Failure("FailedCreate", ApiError({"message": "quota"}))
    failed = status(replica_set(), [], failure, NOW)
    assert failed["conditions"] == [condition("ReplicaFailure", reason="FailedCreate", message="quota")]
    assert "conditions" not in status(replica_set(**failed), [], None, at(9))


@given(st.integers(0, 200), st.integers(0, 200))
async def test_a_template_that_is_refused_costs_few_requests(count: int, fails_from: int) -> None:
    """What is made before the first failure is made; after it at most one batch is tried."""
    tried: list[int] = []

    async def make(number: int) -> None:
        tried.append(number)
        if number >= fails_from:
            raise ApiError({"message": f"refused {number}"})

    error = await make_in_growing_batches(count, make)
    assert sorted(tried) == list(range(len(tried)))
    if fails_from < count:
        assert str(error) == f"refused {fails_from}"
        assert len(tried) <= max(1, min(count, 2 * fails_from + 1))
    else:
        assert (error, len(tried)) == (None, count)


TEMPLATE = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


def test_templates_are_told_apart_by_what_matters() -> None:
    labelled = {
        "metadata": {"labels": {"app": "a", HASH_LABEL: "x"}, "creationTimestamp": None},
        "spec": TEMPLATE["spec"],
    }
    assert same_template(TEMPLATE, labelled)
    assert template_hash(TEMPLATE, 0) == template_hash(labelled, 0)
    with_empty = {"metadata": TEMPLATE["metadata"], "spec": {**TEMPLATE["spec"], "volumes": [], "hostname": None}}
    assert same_template(TEMPLATE, with_empty)
    other = {"metadata": TEMPLATE["metadata"], "spec": {"containers": [{"name": "c", "image": "j"}]}}
    assert not same_template(TEMPLATE, other)
    assert template_hash(TEMPLATE, 0) != template_hash(other, 0)
    assert template_hash(TEMPLATE, 0) != template_hash(TEMPLATE, 1)
    marked = {"metadata": {**TEMPLATE["metadata"], "annotations": {"mark": ""}}, "spec": TEMPLATE["spec"]}
    assert not same_template(TEMPLATE, marked)
    scratch = {
        "metadata": TEMPLATE["metadata"],
        "spec": {**TEMPLATE["spec"], "volumes": [{"name": "v", "emptyDir": {}}]},
    }
    assert not same_template(TEMPLATE, scratch)

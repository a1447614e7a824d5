"""Where workers go and what is asked for them: decided while there are none; and how their starts are timed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightkube.models.core_v1 import (
    ContainerState,
    ContainerStateRunning,
    ContainerStatus,
    PodCondition,
    PodSpec,
    PodStatus,
)
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import Pod
from tests.controllers.builders import SETTINGS, endpoint, model, model_version

from mizzen.controllers.endpoint.decide import resolved
from mizzen.controllers.endpoint.placing import ANYWHERE, Placing, placing
from mizzen.controllers.endpoint.reports import Report
from mizzen.controllers.endpoint.starts import Starts
from mizzen.controllers.endpoint.workers import deployment_for, must_apply
from mizzen.kinds.names import LABEL_ENDPOINT
from mizzen.kinds.serve import StartTimes
from mizzen.policy.rollout import Version

ONE = Version("late-1", "late", 1, "sha256:" + "1" * 64)
MIB = 1 << 20
ELASTIC = {"minReplicas": 0, "maxReplicas": 5}


def made(replicas: int, placed: Placing = ANYWHERE) -> Deployment:
    return deployment_for(endpoint(scaling=ELASTIC), ONE, SETTINGS, replicas, placed)


def asked(deployment: Deployment) -> tuple[str, str]:
    """Memory: (request, limit)."""
    resources = deployment.spec.template.spec.containers[0].resources
    return resources.requests["memory"], resources.limits["memory"]


@pytest.mark.parametrize(
    ("peak_bytes", "expected"),
    [
        (None, None),  # never measured: all that it may take
        (1, "16Mi"),
        (100 * MIB, "112Mi"),  # 110, rounded up
        (460 * MIB, None),  # with the margin more than the limit of 512
        (1 << 40, None),
    ],
)
def test_what_was_measured_is_asked_for_with_a_margin_and_never_more_than_the_limit(peak_bytes, expected) -> None:
    found = placing(endpoint(scaling=ELASTIC), None, peak_bytes, ())
    assert found == Placing(expected)
    assert asked(made(1, found)) == (expected or "512Mi", "512Mi")


@given(
    st.sampled_from([None, "16Mi", "128Mi"]),
    st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=3),
    st.integers(1, 3),
)
def test_while_there_are_workers_nothing_replaces_them(memory, avoid, replicas) -> None:
    """Whatever is measured or fails meanwhile: the same template is made again."""
    there = made(replicas, Placing(memory, tuple(avoid)))
    again = placing(endpoint(scaling=ELASTIC), there, 200 * MIB, ("elsewhere",))
    assert again == Placing(memory, tuple(avoid))
    assert not must_apply(made(replicas, again), there)


def test_while_there_are_none_it_is_decided_anew() -> None:
    there = made(0)
    measured = placing(endpoint(scaling=ELASTIC), there, 100 * MIB, ())
    assert measured == Placing("112Mi")
    assert must_apply(made(0, measured), there)
    assert placing(endpoint(scaling=ELASTIC), None, None, ("bad-node",)).avoid == ("bad-node",)


def test_a_model_larger_than_a_worker_may_be_is_refused_before_it_is_started() -> None:
    big = model_version(1)
    big.spec.artifact.bytes = 3 << 30
    found = resolved("late:1", "spec.model", model(), {1: big}, "512Mi")
    expected = (
        "spec.model: late:1 takes 3,072 MiB as it is stored, and a worker may take 512 MiB "
        "(spec.worker.resources.memory: 512Mi): it cannot be loaded; ask for more than 3,072 MiB"
    )
    assert found == ("TooLarge", expected)
    assert isinstance(resolved("late:1", "spec.model", model(), {1: big}, "4Gi"), Version)


# How starts are timed


def worker(node: str | None = None, *, running: bool = False, ready: bool = False, uid: str = "u") -> Pod:
    state = ContainerState(running=ContainerStateRunning()) if running else ContainerState()
    status = ContainerStatus(image="", imageID="", name="worker", ready=ready, restartCount=0, state=state)
    conditions = [PodCondition(type="Ready", status="True" if ready else "False")]
    labels = {LABEL_ENDPOINT: "late"}
    return Pod(
        metadata=ObjectMeta(name="p", namespace="default", uid=uid, labels=labels),
        spec=PodSpec(containers=[], nodeName=node),
        status=PodStatus(containerStatuses=[status], conditions=conditions),
    )


REPORT = Report(fetch_s=0.001, load_s=0.01, warm_up_s=0.02)
STEPS: list[dict[str, Any]] = [{}, {"node": "n"}, {"node": "n", "running": True}]


def test_the_parts_of_a_start_are_told_when_it_is_over() -> None:
    now = 10.0
    starts = Starts(lambda: now)
    before = None
    for step in STEPS:
        pod = worker(**step)
        starts.seen(before, pod)
        assert starts.of(pod, REPORT) is None
        before, now = pod, now + 0.1
    ready = worker("n", running=True, ready=True)
    starts.seen(before, ready)
    now += 5.0
    starts.seen(ready, ready)
    expected = StartTimes(schedule_s=0.1, start_s=0.1, fetch_s=0.001, load_s=0.01, warm_up_s=0.02, total_s=0.3)
    assert starts.of(ready, REPORT) == expected
    starts.seen(ready, None)
    assert starts.of(ready, REPORT) is None, "what is gone is forgotten"


def test_a_worker_that_was_there_before_is_not_timed() -> None:
    starts = Starts(lambda: 1.0)
    starts.seen(None, worker("n", running=True, ready=True))
    assert starts.of(worker("n", running=True, ready=True), REPORT) is None

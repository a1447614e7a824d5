"""Jobs on the embedded API server: ends, limits, exact counts over the death of the controller."""

from typing import Any

import pytest

from mizzen.kube.conditions import condition
from mizzen.kube.resources import Untyped
from mizzen.local.cluster.jobs.indexes import COMPLETION_INDEX, index_of
from mizzen.local.cluster.jobs.tally import TRACKING
from mizzen.local.cluster.objects import Job, Pod, annotations_of, is_deleted, labels_of, name_of, spec_of, status_of
from mizzen.local.cluster.pods import is_active

from .conftest import World

pytestmark = pytest.mark.timeout(60)


def job(exit_code: int | None = 0, *, name: str = "work", restart: str = "Never", **spec: Any) -> Untyped:
    annotations = {} if exit_code is None else {"hollow/exit": str(exit_code)}
    template = {
        "metadata": {"annotations": annotations},
        "spec": {
            "restartPolicy": restart,
            "containers": [{"name": "main", "image": "i"}],
            "terminationGracePeriodSeconds": 1,
        },
    }
    return Job({"metadata": {"name": name}, "spec": {"template": template, **spec}})


def ended(type_: str) -> Any:
    return lambda one: (condition(status_of(one).get("conditions"), type_) or {}).get("status") == "True"


async def test_a_job_completes_and_says_so_as_kubernetes_does(world: World) -> None:
    await world.client.create(job(completions=3, parallelism=2))
    done = await world.until_one(Job, "work", ended("Complete"))
    status = status_of(done)
    assert (status["succeeded"], status.get("failed"), status.get("active")) == (3, None, None)
    assert [one["type"] for one in status["conditions"]] == ["SuccessCriteriaMet", "Complete"]
    assert {one["reason"] for one in status["conditions"]} == {"CompletionsReached"}
    assert status["completionTime"] >= status["startTime"]
    pods = await world.pods()
    assert len(pods) == 3
    assert not any(TRACKING in (pod["metadata"].get("finalizers") or ()) for pod in pods)


async def test_an_indexed_job_tells_each_pod_its_index(world: World) -> None:
    await world.client.create(job(completions=4, parallelism=4, completionMode="Indexed"))
    done = await world.until_one(Job, "work", ended("Complete"))
    assert status_of(done)["completedIndexes"] == "0-3"
    pods = await world.pods()
    assert sorted(index_of(pod) for pod in pods) == [0, 1, 2, 3]
    for pod in pods:
        assert labels_of(pod)[COMPLETION_INDEX] == annotations_of(pod)[COMPLETION_INDEX]
        assert spec_of(pod)["hostname"] == f"work-{index_of(pod)}"
        assert name_of(pod).startswith(f"work-{index_of(pod)}-")
        (variable,) = spec_of(pod)["containers"][0]["env"]
        assert variable["name"] == "JOB_COMPLETION_INDEX"


async def test_a_job_that_fails_stops_at_its_limit(world: World) -> None:
    await world.client.create(job(1, backoffLimit=0, completions=5, parallelism=3))
    failed = await world.until_one(Job, "work", ended("Failed"))
    last = status_of(failed)["conditions"][-1]
    assert (last["reason"], last["message"]) == ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
    assert status_of(failed)["failed"] == 3
    assert "completionTime" not in status_of(failed)


async def test_a_failure_policy_ends_it_at_once(world: World) -> None:
    rules = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]
    await world.client.create(job(42, podFailurePolicy={"rules": rules}))
    failed = await world.until_one(Job, "work", ended("Failed"))
    last = status_of(failed)["conditions"][-1]
    assert last["reason"] == "PodFailurePolicy"
    assert "failed with exit code 42 matching FailJob rule at index 0" in last["message"]


async def test_a_deadline_ends_it_and_its_pods(world: World) -> None:
    await world.client.create(job(None, parallelism=2, completions=2, activeDeadlineSeconds=1))
    failed = await world.until_one(Job, "work", ended("Failed"))
    assert status_of(failed)["conditions"][-1]["reason"] == "DeadlineExceeded"
    assert not [pod for pod in await world.pods() if is_active(pod)]


async def test_suspending_stops_its_pods_and_resuming_starts_others(world: World) -> None:
    await world.client.create(job(None, parallelism=2, completions=2, suspend=True))
    await world.until_one(Job, "work", ended("Suspended"))
    assert await world.pods() == []
    await world.client.patch(Job, "work", {"spec": {"suspend": False}})
    await world.until(Pod, lambda pods: len([pod for pod in pods if is_active(pod)]) == 2)
    await world.client.patch(Job, "work", {"spec": {"suspend": True}})
    await world.until(Pod, lambda pods: not [pod for pod in pods if is_active(pod)])
    one = await world.until_one(Job, "work", ended("Suspended"))
    assert "startTime" not in status_of(one)
    assert "failed" not in status_of(one), "what was stopped has not failed"


async def test_a_finished_job_goes_when_its_time_is_over_and_takes_its_pods_along(world: World) -> None:
    await world.client.create(job(ttlSecondsAfterFinished=1))
    await world.until_one(Job, "work", ended("Complete"))
    await world.until_gone(Job, "work")
    await world.until(Pod, lambda pods: not pods)


async def test_a_deleted_job_lets_its_pods_go(world: World) -> None:
    await world.client.create(job(None, parallelism=2, completions=2))
    await world.until(Pod, lambda pods: len(pods) == 2)
    await world.client.delete(Job, "work", propagation="Background")
    await world.until(Pod, lambda pods: not pods)


async def test_pods_of_an_orphaned_job_stay_and_are_held_no_longer(world: World) -> None:
    await world.client.create(job(None, parallelism=1))
    await world.until(Pod, lambda pods: len(pods) == 1 and TRACKING in pods[0]["metadata"]["finalizers"])
    await world.client.delete(Job, "work", propagation="Orphan")
    await world.until_gone(Job, "work")
    (pod,) = await world.until(Pod, lambda pods: [pod for pod in pods if not pod["metadata"].get("finalizers")])
    assert not is_deleted(pod)
    assert not pod["metadata"].get("ownerReferences")


async def test_counts_are_exact_over_the_death_of_the_controller(world: World) -> None:
    """Killed at many moments, the controller makes no Pod too many and counts none twice."""
    await world.client.create(job(completions=20, parallelism=5))
    jobs = world.informers.of(Job)
    await jobs.synced()
    for reached in (1, 4, 9, 15):
        await world.until(Pod, lambda pods, n=reached: len(pods) >= n)
        await world.stop_controllers(kill=True)
        await world.start_controllers()
    done = await world.until_one(Job, "work", ended("Complete"))
    assert (status_of(done)["succeeded"], status_of(done).get("failed")) == (20, None)
    assert len(await world.pods()) == 20

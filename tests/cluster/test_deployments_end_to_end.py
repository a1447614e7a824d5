"""Deployments on the embedded API server, from `create` to `undo`."""

import asyncio
from typing import Any

import pytest

from mizzen.kube.conditions import condition
from mizzen.kube.resources import Untyped
from mizzen.local.cluster.objects import (
    Deployment,
    Pod,
    ReplicaSet,
    annotations_of,
    controller_uid,
    is_deleted,
    labels_of,
    name_of,
    spec_of,
    status_of,
    uid_of,
)
from mizzen.local.cluster.pods import is_active, is_finished, is_ready
from mizzen.local.cluster.workloads.revisions import REVISION

from .conftest import World

pytestmark = pytest.mark.timeout(60)


def deployment(image: str = "one", replicas: int = 3, *, annotations: Any = None, **spec: Any) -> Untyped:
    template = {
        "metadata": {"labels": {"app": "web"}, "annotations": annotations or {}},
        "spec": {"containers": [{"name": "main", "image": image}], "terminationGracePeriodSeconds": 1},
    }
    selector = {"matchLabels": {"app": "web"}}
    return Deployment(
        {
            "metadata": {"name": "web"},
            "spec": {"replicas": replicas, "selector": selector, "template": template, **spec},
        }
    )


def is_done(one: Any) -> bool:
    status, wanted = status_of(one), spec_of(one)["replicas"]
    counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
    return status.get("observedGeneration") == one["metadata"]["generation"] and counts == [wanted] * 3


def reason(one: Any, type_: str) -> str | None:
    return (condition(status_of(one).get("conditions"), type_) or {}).get("reason")


async def change(world: World, **spec: Any) -> None:
    await world.client.patch(Deployment, "web", {"spec": spec}, type_="strategic")


def image(name: str) -> dict[str, Any]:
    return {"template": {"spec": {"containers": [{"name": "main", "image": name}]}}}


async def test_a_rollout_keeps_its_promises_and_can_be_taken_back(world: World) -> None:
    """Create, update, undo: at each moment that anyone can see, no more Pods than allowed and enough of them ready."""
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}
    await world.client.create(deployment(replicas=4, strategy=rolling))
    await world.until_one(Deployment, "web", is_done)
    pods = world.informers.of(Pod)
    await pods.synced()
    seen: list[tuple[int, int]] = []
    stop = pods.subscribe(
        lambda _old, _new: seen.append(
            (sum(map(is_active, pods.list())), sum(is_ready(p) and is_active(p) for p in pods.list()))
        )
    )
    seen.clear()
    await change(world, **image("two"))
    done = await world.until_one(Deployment, "web", lambda one: is_done(one) and annotations_of(one)[REVISION] == "2")
    assert reason(done, "Progressing") == "NewReplicaSetAvailable"
    stop()
    assert seen
    assert max(active for active, _ in seen) <= 5
    assert min(ready for _, ready in seen) >= 3
    sets = {
        spec_of(one)["template"]["spec"]["containers"][0]["image"]: one for one in await world.client.list(ReplicaSet)
    }
    assert {name: spec_of(one)["replicas"] for name, one in sets.items()} == {"one": 0, "two": 4}
    # What `kubectl rollout undo` does: the old template again.
    await change(world, **image("one"))
    await world.until_one(Deployment, "web", lambda one: is_done(one) and annotations_of(one)[REVISION] == "3")
    back = await world.client.get(ReplicaSet, name_of(sets["one"]))
    assert uid_of(back) == uid_of(sets["one"]), "the ReplicaSet of before, not a new one"
    assert annotations_of(back)["deployment.kubernetes.io/revision-history"] == "1"
    assert {labels_of(pod)["pod-template-hash"] for pod in await world.pods() if is_active(pod)} == {
        labels_of(back)["pod-template-hash"]
    }


async def test_scaling_follows_and_history_is_kept_short(world: World) -> None:
    await world.client.create(deployment(replicas=1, revisionHistoryLimit=1))
    for number in range(3):
        await change(world, **image(f"v{number}"))
        await world.until_one(Deployment, "web", lambda one, n=number: is_done(one) and _image_of(one) == f"v{n}")
    await world.until(ReplicaSet, lambda sets: len(sets) == 2)
    await world.client.scale(Deployment, "web", 5)
    await world.until_one(Deployment, "web", is_done)
    await world.client.scale(Deployment, "web", 0)
    await world.until(Pod, lambda pods: not pods)
    await world.until_one(Deployment, "web", lambda one: status_of(one).get("replicas", 0) == 0)


def _image_of(one: Any) -> str:
    return str(spec_of(one)["template"]["spec"]["containers"][0]["image"])


async def test_a_paused_deployment_scales_and_does_not_roll_out(world: World) -> None:
    await world.client.create(deployment(replicas=2))
    await world.until_one(Deployment, "web", is_done)
    await change(world, paused=True)
    await world.until_one(Deployment, "web", lambda one: reason(one, "Progressing") == "DeploymentPaused")
    await change(world, replicas=4, **image("two"))
    await world.until_one(Deployment, "web", lambda one: status_of(one).get("availableReplicas") == 4)
    assert len((await world.client.list(ReplicaSet)).items) == 1
    await change(world, paused=False)
    await world.until_one(
        Deployment, "web", lambda one: is_done(one) and reason(one, "Progressing") == "NewReplicaSetAvailable"
    )
    assert len((await world.client.list(ReplicaSet)).items) == 2


async def test_recreate_never_mixes_old_and_new(world: World) -> None:
    await world.client.create(deployment(replicas=3, strategy={"type": "Recreate"}))
    await world.until_one(Deployment, "web", is_done)
    pods = world.informers.of(Pod)
    await pods.synced()
    mixed: list[int] = []

    def look(_old: Any, _new: Any) -> None:
        mixed.append(len({labels_of(pod)["pod-template-hash"] for pod in pods.list() if not is_finished(pod)}))

    pods.subscribe(look)
    await change(world, **image("two"))
    await world.until_one(Deployment, "web", lambda one: is_done(one) and annotations_of(one)[REVISION] == "2")
    assert max(mixed) == 1


async def test_a_version_that_does_not_come_up_leaves_the_old_one_and_times_out(world: World) -> None:
    await world.client.create(deployment(replicas=2, progressDeadlineSeconds=2))
    await world.until_one(Deployment, "web", is_done)
    await change(world, template={"metadata": {"annotations": {"hollow/never-ready": ""}}})
    stuck = await world.until_one(
        Deployment, "web", lambda one: reason(one, "Progressing") == "ProgressDeadlineExceeded"
    )
    assert status_of(stuck)["availableReplicas"] == 2
    assert reason(stuck, "Available") == "MinimumReplicasAvailable"


async def test_pods_that_fit_are_adopted_and_pods_that_do_not_any_more_are_let_go(world: World) -> None:
    await world.client.create(deployment(replicas=2))
    await world.until_one(Deployment, "web", is_done)
    (owner,) = (await world.client.list(ReplicaSet)).items
    hash_ = labels_of(owner)["pod-template-hash"]
    stray = await world.client.create(
        Pod(
            {
                "metadata": {"name": "stray", "labels": {"app": "web", "pod-template-hash": hash_}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            }
        )
    )
    # It is adopted, and then there is one too many.
    await world.until(
        Pod,
        lambda pods: (
            len([pod for pod in pods if is_active(pod)]) == 2
            and any(is_deleted(p) or uid_of(p) != uid_of(stray) for p in pods)
        ),
    )
    await world.until(Pod, lambda pods: len(pods) == 2)
    victim = (await world.pods())[0]
    await world.client.patch(Pod, name_of(victim), {"metadata": {"labels": {"app": "debug"}}})
    freed = await world.until_one(Pod, name_of(victim), lambda pod: controller_uid(pod) is None)
    assert not is_deleted(freed)
    await world.until(
        Pod, lambda pods: len([pod for pod in pods if controller_uid(pod) == uid_of(owner) and is_ready(pod)]) == 2
    )


async def test_pods_that_die_are_replaced_and_a_killed_controller_goes_on(world: World) -> None:
    await world.client.create(deployment(replicas=3))
    await asyncio.sleep(0)
    await world.stop_controllers(kill=True)
    await world.start_controllers()
    await world.until_one(Deployment, "web", is_done)
    for pod in await world.pods():
        await world.client.delete(Pod, name_of(pod), grace_period_s=0)
    await world.until_one(Deployment, "web", is_done)
    await world.until(Pod, lambda pods: len(pods) == 3)

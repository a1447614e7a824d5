"""What a Deployment says of itself, and how it remembers revisions."""

from typing import Any

from mizzen.local.cluster.objects import Deployment, ReplicaSet
from mizzen.local.cluster.workloads import revisions
from mizzen.local.cluster.workloads.deployment_status import rollout_status, status, time_left, timed_out

from .builders import NOW, at


def deployment(replicas: int = 3, status_: Any = None, **spec: Any) -> Any:
    meta = {"name": "web", "namespace": "default", "generation": 5}
    return Deployment(
        {
            "metadata": meta,
            "spec": {"replicas": replicas, "progressDeadlineSeconds": 60, **spec},
            "status": status_ or {},
        }
    )


def replica_set(name: str, replicas: int, available: int, annotations: Any = None, **more: Any) -> Any:
    counts = {"replicas": replicas, "readyReplicas": available, "availableReplicas": available} | more
    return ReplicaSet(
        {"metadata": {"name": name, "annotations": annotations or {}}, "spec": {"replicas": replicas}, "status": counts}
    )


def progressing(found: dict[str, Any]) -> tuple[str, str, str] | None:
    return next(
        ((c["status"], c["reason"], c["message"]) for c in found["conditions"] if c["type"] == "Progressing"), None
    )


def test_counts_and_availability() -> None:
    new, old = replica_set("new", 2, 1), replica_set("old", 2, 2)
    found = status(deployment(), new, [old, new], least=3, now=NOW)
    assert {key: value for key, value in found.items() if key != "conditions"} == {
        "observedGeneration": 5, "replicas": 4, "updatedReplicas": 2, "readyReplicas": 3, "availableReplicas": 3,
        "unavailableReplicas": 1, "terminatingReplicas": 0,
    }  # fmt: skip
    assert [(c["type"], c["status"]) for c in found["conditions"]] == [("Available", "True")]
    assert (
        status(deployment(), new, [old, new], least=4, now=NOW)["conditions"][0]["reason"]
        == "MinimumReplicasUnavailable"
    )


def test_a_rollout_from_start_to_end() -> None:
    """Progress is renewed by each step, done is said once, and a Pod that dies later does not take it back."""
    one = deployment()
    found = rollout_status(one, replica_set("new", 1, 0), [replica_set("new", 1, 0)], 2, NOW)
    assert progressing(found) == ("True", "ReplicaSetUpdated", 'ReplicaSet "new" is progressing.')
    one = deployment(status_=found)
    assert time_left(one, at(10)) == 50
    done = replica_set("new", 3, 3)
    found = rollout_status(one, done, [done], 2, at(20))
    assert progressing(found) == ("True", "NewReplicaSetAvailable", 'ReplicaSet "new" has successfully progressed.')
    one = deployment(status_=found)
    assert time_left(one, at(21)) is None
    hurt = replica_set("new", 3, 1)
    found = rollout_status(one, hurt, [hurt], 2, at(1000))
    assert progressing(found)[1] == "NewReplicaSetAvailable"
    assert found["conditions"][0]["status"] == "False", "available it is not"


def test_a_rollout_that_does_not_move_times_out_and_recovers() -> None:
    stuck = replica_set("new", 1, 0)
    found = rollout_status(deployment(), stuck, [stuck], 2, NOW)
    one = deployment(status_=found)
    assert not timed_out(one, at(60))
    assert progressing(rollout_status(one, stuck, [stuck], 2, at(59)))[1] == "ReplicaSetUpdated"
    found = rollout_status(one, stuck, [stuck], 2, at(61))
    assert progressing(found) == ("False", "ProgressDeadlineExceeded", 'ReplicaSet "new" has timed out progressing.')
    moved = replica_set("new", 1, 1)
    found = rollout_status(deployment(status_=found), moved, [moved], 2, at(99))
    assert progressing(found)[:2] == ("True", "ReplicaSetUpdated")


def test_a_new_rollout_begins_anew_though_the_last_one_was_done() -> None:
    """A new template, or one of before: the deadline counts from now, and it can be missed."""
    done = replica_set("a", 3, 3)
    one = deployment(status_=rollout_status(deployment(), done, [done], 2, NOW))
    fresh, back = replica_set("b", 1, 0), replica_set("z", 0, 0)
    found = rollout_status(one, fresh, [done, fresh], 2, at(100), created=True)
    assert progressing(found) == ("True", "NewReplicaSetCreated", 'Created new replica set "b"')
    assert timed_out(deployment(status_=found), at(161))
    found = rollout_status(one, back, [done, back], 2, at(100))
    assert progressing(found) == ("True", "FoundNewReplicaSet", 'Found new replica set "z"')
    assert timed_out(deployment(status_=found), at(161))


def test_without_a_deadline_nothing_is_said_of_progress() -> None:
    stuck = replica_set("new", 1, 0)
    assert progressing(rollout_status(deployment(progressDeadlineSeconds=None), stuck, [stuck], 2, NOW)) is None


def test_the_failure_of_a_replica_set_is_the_deployments() -> None:
    failure = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": "quota",
        "lastTransitionTime": "t",
    }
    failing = replica_set("new", 1, 0, conditions=[failure])
    found = rollout_status(deployment(), failing, [failing], 2, NOW)
    assert [(c["type"], c["message"]) for c in found["conditions"]][-1] == ("ReplicaFailure", "quota")
    well = replica_set("new", 1, 0)
    found = rollout_status(deployment(status_=found), well, [well], 2, NOW)
    assert "ReplicaFailure" not in [c["type"] for c in found["conditions"]]


def test_a_template_that_comes_back_is_the_newest_revision_and_remembers_what_it_was() -> None:
    one = deployment()
    one["metadata"]["annotations"] = {"note": "x", "kubectl.kubernetes.io/last-applied-configuration": "{}"}
    first = replica_set("a", 0, 0, revisions.annotated(one, None, 1))
    assert first["metadata"]["annotations"] == {"note": "x", revisions.REVISION: "1"}
    second = replica_set("b", 3, 3, revisions.annotated(one, None, revisions.next_revision([first])))
    assert revisions.revision(second) == 2
    back = replica_set("a", 0, 0, revisions.annotated(one, first, revisions.next_revision([second])))
    assert (revisions.revision(back), back["metadata"]["annotations"][revisions.REVISION_HISTORY]) == (3, "1")
    again = revisions.annotated(one, back, revisions.next_revision([second]))
    assert again == back["metadata"]["annotations"], "what is said twice is said once"
    for number in range(10, 3000):
        back = replica_set("a", 0, 0, revisions.annotated(one, back, number))
    assert len(back["metadata"]["annotations"][revisions.REVISION_HISTORY]) <= 2000

"""Deployments, ReplicaSets and Jobs: defaults, rules, and with controllers what becomes of them.

Where a controller manager runs but no node does, the tests play the kubelet: they patch the status of the Pods.
"""

import pytest

from .client import Api, Json, Resource, refused
from .objects import container, deployment, job, replica_set, template
from .surroundings import Namespace

DEPLOYMENTS, REPLICA_SETS, JOBS = "apps/v1/deployments", "apps/v1/replicasets", "batch/v1/jobs"


# Deployments


def test_deployment_defaults(ns: Namespace) -> None:
    """One replica, a rolling update by quarters, ten revisions, ten minutes; the template gets a Pod's defaults."""
    spec = ns(DEPLOYMENTS).create(deployment("web"))["spec"]
    pod_template = spec.pop("template")
    assert spec == {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "web"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    }
    assert pod_template["spec"]["restartPolicy"] == "Always"
    assert pod_template["spec"]["containers"][0]["terminationMessagePath"] == "/dev/termination-log"
    assert "tolerations" not in pod_template["spec"]
    assert "serviceAccountName" not in pod_template["spec"]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"replicas": -1}, "spec.replicas"),
        ({"selector": {}}, "spec.selector"),
        ({"strategy": {"type": "Sudden"}}, "spec.strategy"),
        ({"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}, "spec.strategy.rollingUpdate"),
        (
            {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}},
            "spec.strategy.rollingUpdate.maxUnavailable",
        ),
        ({"strategy": {"rollingUpdate": {"maxUnavailable": "150%"}}}, "spec.strategy.rollingUpdate.maxUnavailable"),
        ({"strategy": {"rollingUpdate": {"maxSurge": "some"}}}, "spec.strategy.rollingUpdate.maxSurge"),
        ({"minReadySeconds": -1}, "spec.minReadySeconds"),
        ({"progressDeadlineSeconds": 5, "minReadySeconds": 5}, "spec.progressDeadlineSeconds"),
        ({"revisionHistoryLimit": -1}, "spec.revisionHistoryLimit"),
        ({"template": template(restartPolicy="Never")}, "spec.template.spec.restartPolicy"),
        ({"template": template({"app": "other"})}, "spec.template.metadata.labels"),
        ({"template": template(containers=[])}, "spec.template.spec.containers"),
        ({"template": template(activeDeadlineSeconds=5)}, "spec.template.spec.activeDeadlineSeconds"),
    ],
    ids=range(14),
)
def test_deployments_that_are_wrong(ns: Namespace, spec: Json, field: str) -> None:
    """Each rule names its field."""
    with refused(422, "Invalid") as error:
        ns(DEPLOYMENTS).create(deployment("web", **spec))
    assert field in {found for found, _ in error.causes}


@pytest.mark.parametrize(
    ("build", "resource"), [(deployment, DEPLOYMENTS), (replica_set, REPLICA_SETS)], ids=["d", "rs"]
)
def test_selectors_are_immutable(ns: Namespace, build, resource: str) -> None:
    """What a workload selects cannot change."""
    ns(resource).create(build("web", replicas=0))
    change = {"selector": {"matchLabels": {"app": "x"}}, "template": {"metadata": {"labels": {"app": "x"}}}}
    with refused(422, "Invalid", "field is immutable") as error:
        ns(resource).patch("web", {"spec": change})
    assert ("spec.selector", "FieldValueInvalid") in error.causes


def test_a_strategy_of_another_type(ns: Namespace) -> None:
    """A rolling update turned into Recreate loses its parameters when null is said."""
    ns(DEPLOYMENTS).create(deployment("web", replicas=0))
    got = ns(DEPLOYMENTS).patch("web", {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}})
    assert got["spec"]["strategy"] == {"type": "Recreate"}


# Jobs


def test_job_defaults(ns: Namespace) -> None:
    """One completion, six retries, not indexed, not suspended; selector and labels are made from the uid."""
    made = ns(JOBS).create(job("one"))
    spec, uid = made["spec"], made["metadata"]["uid"]
    labels = spec["template"]["metadata"]["labels"]
    expected = {
        "parallelism": 1,
        "completions": 1,
        "backoffLimit": 6,
        "completionMode": "NonIndexed",
        "suspend": False,
        "manualSelector": False,
        "podReplacementPolicy": "TerminatingOrFailed",
    }
    assert {key: spec.get(key) for key in expected} == expected
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert labels == {
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": "one",
        "controller-uid": uid,
        "job-name": "one",
    }


def in_job(**spec: object) -> Json:
    return {"template": {"spec": {"containers": [container()], "restartPolicy": "Never"} | spec}}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (in_job(restartPolicy="Always"), "spec.template.spec.restartPolicy"),
        ({"parallelism": -1}, "spec.parallelism"),
        ({"completions": -1}, "spec.completions"),
        ({"backoffLimit": -1}, "spec.backoffLimit"),
        ({"activeDeadlineSeconds": -1}, "spec.activeDeadlineSeconds"),
        ({"ttlSecondsAfterFinished": -1}, "spec.ttlSecondsAfterFinished"),
        ({"completionMode": "Indexed", "parallelism": 2}, "spec.completions"),
        ({"completionMode": "Odd", "completions": 1}, "spec.completionMode"),
        ({"selector": {"matchLabels": {"a": "b"}}}, "spec.selector"),
        (
            {"podFailurePolicy": {"rules": [{"action": "Guess", "onExitCodes": {"operator": "In", "values": [1]}}]}},
            "spec.podFailurePolicy.rules[0].action",
        ),
        (
            {"podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [0]}}]}},
            "spec.podFailurePolicy.rules[0].onExitCodes.values[0]",
        ),
        ({"podFailurePolicy": {"rules": [{"action": "FailJob"}]}}, "spec.podFailurePolicy.rules[0]"),
    ],
    ids=range(12),
)
def test_jobs_that_are_wrong(ns: Namespace, spec: Json, field: str) -> None:
    """Each rule names its field."""
    with refused(422, "Invalid") as error:
        ns(JOBS).create(job("one", **spec))
    assert any(found.startswith(field) for found, _ in error.causes), error.causes


def test_what_of_a_job_cannot_change(ns: Namespace) -> None:
    """Completions and the template are fixed; parallelism, suspension and deadlines are not."""
    jobs = ns(JOBS)
    jobs.create(job("one", suspend=True, completions=2))
    for change, field in (
        ({"completions": 3}, "spec.completions"),
        ({"template": {"spec": {"containers": [container(image="other")]}}}, "spec.template"),
        ({"completionMode": "Indexed"}, "spec.completionMode"),
    ):
        with refused(422, "Invalid", "field is immutable") as error:
            jobs.patch("one", {"spec": change})
        assert any(found.startswith(field) for found, _ in error.causes), error.causes
    got = jobs.patch("one", {"spec": {"parallelism": 2, "activeDeadlineSeconds": 100, "ttlSecondsAfterFinished": 5}})
    assert (got["spec"]["parallelism"], got["spec"]["activeDeadlineSeconds"]) == (2, 100)


def test_a_job_can_be_deleted_in_the_background(ns: Namespace) -> None:
    """A Job goes at once when Background is asked for."""
    jobs = ns(JOBS)
    jobs.create(job("one", suspend=True))
    jobs.delete("one", propagationPolicy="Background")
    assert not jobs.exists("one")


# With controllers


def play_kubelet(pods: Resource, name: str, phase: str, *, ready: bool = False, exit_code: int | None = None) -> None:
    """Write the status that a node would write."""
    state: Json = {"running": {"startedAt": "2026-01-02T03:04:05Z"}}
    if exit_code is not None:
        state = {"terminated": {"exitCode": exit_code, "finishedAt": "2026-01-02T03:04:06Z", "reason": "Completed"}}
    statuses = [
        {
            "name": "main",
            "image": "i",
            "imageID": "",
            "ready": ready,
            "restartCount": 0,
            "state": state,
            "started": ready,
        }
    ]
    conditions = [
        {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": "2026-01-02T03:04:05Z"}
    ]
    status = {"phase": phase, "conditions": conditions, "containerStatuses": statuses}
    pods.patch(name, {"status": status}, "strategic", "status")


def next_pods(pods: Resource, count: int, **query: str) -> list[Json]:
    """The first `count` Pods that come to be and are not on their way out."""
    found: dict[str, Json] = {}
    with pods.watch(**query) as watch:
        for event in watch:
            if event.type == "DELETED" or "deletionTimestamp" in event.object["metadata"]:
                found.pop(event.name, None)
            elif event.type != "BOOKMARK":
                found[event.name] = event.object
            if len(found) == count:
                return list(found.values())
    raise AssertionError(f"expected {count} Pods, found {sorted(found)}")


def owner_of(thing: Json) -> tuple[str, str]:
    (reference,) = thing["metadata"]["ownerReferences"]
    assert reference["controller"] is True
    assert reference["blockOwnerDeletion"] is True
    return reference["kind"], reference["name"]


@pytest.mark.needs_controllers
def test_a_deployment_becomes_pods(ns: Namespace, pods: Resource) -> None:
    """Deployment -> ReplicaSet -> Pods, with a template hash, owner references, conditions and counts."""
    web = ns(DEPLOYMENTS)
    web.create(deployment("web", replicas=2))
    made = next_pods(pods, 2)
    (replicas,) = ns(REPLICA_SETS).list()["items"]
    suffix = replicas["metadata"]["labels"]["pod-template-hash"]
    assert replicas["metadata"]["name"] == f"web-{suffix}"
    assert owner_of(replicas) == ("Deployment", "web")
    assert replicas["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    for one in made:
        assert owner_of(one) == ("ReplicaSet", f"web-{suffix}")
        assert one["metadata"]["labels"] == {"app": "web", "pod-template-hash": suffix}
        assert one["metadata"]["name"].startswith(f"web-{suffix}-")
        play_kubelet(pods, one["metadata"]["name"], "Running", ready=True)
    got = web.wait("web", lambda one: one["status"].get("availableReplicas") == 2)
    assert (got["status"]["replicas"], got["status"]["readyReplicas"], got["status"]["updatedReplicas"]) == (2, 2, 2)
    assert got["status"]["observedGeneration"] == got["metadata"]["generation"]
    done = web.wait("web", lambda one: condition(one, "Progressing").get("reason") == "NewReplicaSetAvailable")
    assert condition(done, "Available")["status"] == "True"


def condition(thing: Json, type_: str) -> Json:
    found = [one for one in thing["status"].get("conditions") or [] if one["type"] == type_]
    return found[0] if found else {}


@pytest.mark.needs_controllers
def test_a_rolling_update(ns: Namespace, pods: Resource) -> None:
    """A new template: new Pods come first, old ones go as new ones are ready; the old ReplicaSet is kept at zero."""
    web = ns(DEPLOYMENTS)
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    web.create(deployment("web", replicas=2, strategy=rolling))
    for one in next_pods(pods, 2):
        play_kubelet(pods, one["metadata"]["name"], "Running", ready=True)
    web.wait("web", lambda one: one["status"].get("availableReplicas") == 2)
    old = ns(REPLICA_SETS).list()["items"][0]["metadata"]["labels"]["pod-template-hash"]
    web.patch(
        "web", {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "new:2"}]}}}}, "strategic"
    )
    query = f"app=web,pod-template-hash!={old}"
    for count in (1, 2):
        for one in next_pods(pods, count, labelSelector=query):
            play_kubelet(pods, one["metadata"]["name"], "Running", ready=True)
    done = web.wait("web", lambda one: one["status"].get("updatedReplicas") == 2 and one["status"].get("replicas") == 2)
    assert done["status"]["availableReplicas"] == 2
    sizes = {
        one["metadata"]["labels"]["pod-template-hash"]: one["spec"]["replicas"]
        for one in ns(REPLICA_SETS).list()["items"]
    }
    assert sizes.pop(old) == 0
    assert list(sizes.values()) == [2]
    assert all(one["spec"]["containers"][0]["image"] == "new:2" for one in next_pods(pods, 2))


@pytest.mark.needs_controllers
def test_scaling(ns: Namespace, pods: Resource) -> None:
    """Scale up makes Pods, scale down takes those that are not ready first."""
    web = ns(DEPLOYMENTS)
    web.create(deployment("web", replicas=1))
    (first,) = next_pods(pods, 1)
    play_kubelet(pods, first["metadata"]["name"], "Running", ready=True)
    web.patch("web", {"spec": {"replicas": 3}}, subresource="scale")
    next_pods(pods, 3)
    web.wait("web", lambda one: one["status"].get("replicas") == 3)
    web.patch("web", {"spec": {"replicas": 1}}, subresource="scale")
    web.wait("web", lambda one: one["status"].get("replicas") == 1)
    left = [one["metadata"]["name"] for one in pods.list()["items"] if "deletionTimestamp" not in one["metadata"]]
    assert left == [first["metadata"]["name"]]


@pytest.mark.needs_controllers
def test_a_pod_that_is_deleted_comes_back(ns: Namespace, pods: Resource) -> None:
    """The ReplicaSet replaces what goes."""
    ns(REPLICA_SETS).create(replica_set("web", replicas=1))
    (first,) = next_pods(pods, 1)
    version = first["metadata"]["resourceVersion"]
    pods.delete(first["metadata"]["name"])
    with pods.watch(resourceVersion=version) as watch:
        event = watch.until(lambda one: one.type == "ADDED" and one.name != first["metadata"]["name"])
    assert owner_of(event.object) == ("ReplicaSet", "web")


@pytest.mark.needs_controllers
def test_orphans_are_adopted_and_strangers_released(ns: Namespace, pods: Resource) -> None:
    """A Pod that matches and has no controller is taken; one whose label changes is let go and replaced."""
    labelled = {"app": "web"}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "orphan", "labels": labelled}}
    pods.create(body | {"spec": {"containers": [container()]}})
    ns(REPLICA_SETS).create(replica_set("web", replicas=1))
    adopted = pods.wait("orphan", lambda one: "ownerReferences" in one["metadata"])
    assert owner_of(adopted) == ("ReplicaSet", "web")
    pods.patch("orphan", {"metadata": {"labels": {"app": "gone"}}})
    released = pods.wait("orphan", lambda one: "ownerReferences" not in one["metadata"])
    assert released["metadata"]["labels"] == {"app": "gone"}
    next_pods(pods, 1, labelSelector="app=web")


@pytest.mark.needs_controllers
def test_a_job_completes(ns: Namespace, pods: Resource) -> None:
    """A Job makes a Pod; when it succeeds the Job is Complete, with times and counts."""
    jobs = ns(JOBS)
    jobs.create(job("one"))
    (made,) = next_pods(pods, 1)
    assert owner_of(made) == ("Job", "one")
    assert "batch.kubernetes.io/job-tracking" in made["metadata"]["finalizers"]
    assert jobs.wait("one", lambda one: one["status"].get("active") == 1)["status"]["startTime"]
    play_kubelet(pods, made["metadata"]["name"], "Succeeded", exit_code=0)
    done = jobs.wait("one", lambda one: condition(one, "Complete").get("status") == "True")
    assert done["status"]["succeeded"] == 1
    assert done["status"]["completionTime"]
    assert done["status"].get("active", 0) == 0
    pods.wait(made["metadata"]["name"], lambda one: "finalizers" not in one["metadata"])


@pytest.mark.needs_controllers
def test_a_job_fails_at_its_limit(ns: Namespace, pods: Resource) -> None:
    """More failures than backoffLimit: Failed with BackoffLimitExceeded."""
    jobs = ns(JOBS)
    jobs.create(job("one", backoffLimit=0))
    (made,) = next_pods(pods, 1)
    play_kubelet(pods, made["metadata"]["name"], "Failed", exit_code=1)
    done = jobs.wait("one", lambda one: condition(one, "Failed").get("status") == "True")
    assert condition(done, "Failed")["reason"] == "BackoffLimitExceeded"
    assert done["status"]["failed"] == 1


@pytest.mark.needs_controllers
def test_an_indexed_job(ns: Namespace, pods: Resource) -> None:
    """Each Pod has an index of its own, in a label, an annotation and the environment; completion lists them."""
    jobs = ns(JOBS)
    jobs.create(job("one", completionMode="Indexed", completions=3, parallelism=3))
    made = next_pods(pods, 3)
    index = "batch.kubernetes.io/job-completion-index"
    assert sorted(one["metadata"]["annotations"][index] for one in made) == ["0", "1", "2"]
    assert sorted(one["metadata"]["labels"][index] for one in made) == ["0", "1", "2"]
    for one in made:
        names = [entry["name"] for entry in one["spec"]["containers"][0]["env"]]
        assert "JOB_COMPLETION_INDEX" in names
        assert one["metadata"]["name"].startswith(f"one-{one['metadata']['annotations'][index]}-")
        play_kubelet(pods, one["metadata"]["name"], "Succeeded", exit_code=0)
    done = jobs.wait("one", lambda one: condition(one, "Complete").get("status") == "True")
    assert done["status"]["completedIndexes"] == "0-2"


@pytest.mark.needs_controllers
def test_a_pod_failure_policy(ns: Namespace, pods: Resource) -> None:
    """An exit code that the policy names fails the Job at once, with PodFailurePolicy as the reason."""
    policy = {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]}
    jobs = ns(JOBS)
    jobs.create(job("one", backoffLimit=5, podFailurePolicy=policy))
    (made,) = next_pods(pods, 1)
    play_kubelet(pods, made["metadata"]["name"], "Failed", exit_code=42)
    done = jobs.wait("one", lambda one: condition(one, "Failed").get("status") == "True")
    assert condition(done, "Failed")["reason"] == "PodFailurePolicy"


@pytest.mark.needs_controllers
def test_a_suspended_job(ns: Namespace, pods: Resource) -> None:
    """A suspended Job has no Pods and says so; resumed, it makes them."""
    jobs = ns(JOBS)
    jobs.create(job("one", suspend=True))
    got = jobs.wait("one", lambda one: condition(one, "Suspended").get("status") == "True")
    assert got["status"].get("active", 0) == 0
    assert pods.names() == []
    jobs.patch("one", {"spec": {"suspend": False}})
    assert len(next_pods(pods, 1)) == 1


@pytest.mark.needs_controllers
def test_a_finished_job_goes_after_its_time(api: Api, ns: Namespace, pods: Resource) -> None:
    """ttlSecondsAfterFinished=0: a finished Job is deleted with its Pods."""
    jobs = ns(JOBS)
    jobs.create(job("one", ttlSecondsAfterFinished=0))
    (made,) = next_pods(pods, 1)
    play_kubelet(pods, made["metadata"]["name"], "Succeeded", exit_code=0)
    jobs.wait_gone("one")
    pods.wait_gone(made["metadata"]["name"])

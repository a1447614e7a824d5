"""InferenceEndpoint: the reference is resolved, its version brought up beside what is served, and the status tells."""

from tests.controllers.builders import SETTINGS, T0, T1, endpoint, model, model_version

from mizzen.controllers.endpoint.decide import Decision, decide, resolved
from mizzen.controllers.endpoint.workers import deployment_for, deployment_name, must_apply
from mizzen.kinds.meta import condition_named
from mizzen.policy.rollout import Version, Workers

VERSIONS = {1: model_version(1), 2: model_version(2)}
AT_TWO = model(status={"aliases": [{"name": "production", "version": 2, "digest": "sha256:" + "0" * 64, "since": T0}]})
TWO = Version("late-2", "late", 2, VERSIONS[2].spec.artifact.digest)


def ready(decision: Decision) -> tuple[str, str]:
    condition = condition_named(decision.status.conditions, "Ready")
    assert condition is not None
    return condition.status, condition.reason


def test_references_resolve_or_say_why_not() -> None:
    assert resolved("late@production", "spec.model", AT_TWO, VERSIONS) == TWO
    one = resolved("late:1", "spec.model", AT_TWO, VERSIONS)
    assert isinstance(one, Version)
    assert one.version == 1
    assert resolved("late@production", "spec.model", None, {})[0] == "ModelMissing"
    assert resolved("late@production", "spec.model", model(), VERSIONS)[0] == "AliasMissing"
    assert resolved("late:7", "spec.model", AT_TWO, VERSIONS) == (
        "VersionMissing",
        "spec.model: expected a version of late (1, 2), got 7",
    )


def test_a_version_is_served_when_its_workers_are_ready() -> None:
    starting = decide(endpoint(), TWO, {}, SETTINGS, T0)
    assert starting.deployments == (TWO,)
    assert ready(starting) == ("False", "VersionStarting")
    assert starting.status.traffic == []
    up = decide(endpoint(starting.status.to_wire()), TWO, {"late-2": Workers(wanted=1, ready=1)}, SETTINGS, T1)
    assert ready(up) == ("True", "Serving")
    assert up.status.serving == "late:2"
    assert up.status.url == "http://127.0.0.1:7080/v2/models/late"
    assert [event.reason for event in up.events] == ["Serving"]


def test_what_is_served_stays_when_the_reference_cannot_be_resolved() -> None:
    seen = {"late-2": Workers(wanted=1, ready=1)}
    up = decide(endpoint(), TWO, seen, SETTINGS, T0)
    lost = decide(endpoint(up.status.to_wire()), ("ModelMissing", "gone"), seen, SETTINGS, T1)
    assert lost.status.serving == "late:2"
    assert lost.deployments == (TWO,)
    assert ready(lost) == ("False", "ModelMissing")


def test_a_version_that_fails_says_why_and_the_old_one_stays() -> None:
    one = Version("late-1", "late", 1, VERSIONS[1].spec.artifact.digest)
    up = decide(endpoint(), one, {"late-1": Workers(wanted=1, ready=1)}, SETTINGS, T0)
    workers = {
        "late-1": Workers(wanted=1, ready=1),
        "late-2": Workers(wanted=1, ready=0, restarts=5, trouble="corrupt model"),
    }
    failed = decide(endpoint(up.status.to_wire()), TWO, workers, SETTINGS, T1)
    assert ready(failed) == ("False", "VersionFailed")
    assert failed.status.serving == "late:1"
    assert failed.deployments == (one,)
    condition = condition_named(failed.status.conditions, "Ready")
    assert condition is not None
    assert (
        condition.message
        == "version 2 did not come up: corrupt model; late:1 stays served; next try at 2026-01-01T00:02:00Z"
    )


def test_other_namespaces_have_their_own_paths() -> None:
    other = endpoint()
    other.metadata.namespace = "team"
    assert decide(other, TWO, {}, SETTINGS, T0).status.url == "http://127.0.0.1:7080/namespaces/team/v2/models/late"


def test_a_deployment_is_applied_again_only_when_it_would_differ() -> None:
    wanted = deployment_for(endpoint(), TWO, SETTINGS)
    assert must_apply(wanted, None)
    assert not must_apply(wanted, deployment_for(endpoint(), TWO, SETTINGS))
    assert must_apply(deployment_for(endpoint(scaling={"replicas": 2}), TWO, SETTINGS), wanted)
    by_hand = deployment_for(endpoint(), TWO, SETTINGS)
    by_hand.spec.replicas = 5
    assert must_apply(wanted, by_hand)


def test_names_fit_and_tell_versions_apart() -> None:
    assert len(deployment_name("e" * 63, TWO)) <= 57, "a ReplicaSet and a Pod add their own endings"
    other = Version("late-2", "late", 2, "sha256:" + "f" * 64)
    assert deployment_name("late", TWO) != deployment_name("late", other)

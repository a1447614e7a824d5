"""A Pod's status in the kubelet's words."""

from dataclasses import replace

import pytest
from tests.node.builders import container, deleted, moment, pod
from tests.node.simulation import Behaviour, Simulation

from mizzen.local.node.podspec import PodSpec
from mizzen.local.node.podstatus import container_status, pod_phase, pod_status

ADDRESS = "127.0.0.1"


def status_of(simulation: Simulation, before: dict | None = None) -> dict:
    now = moment(simulation.now)
    return pod_status(simulation.pod, simulation.state, ADDRESS, before or {}, now)


def conditions_of(status: dict) -> dict[str, tuple[str, str | None]]:
    return {condition["type"]: (condition["status"], condition["reason"]) for condition in status["conditions"]}


def state_of(simulation: Simulation, name: str = "main") -> tuple[str, str | None, dict]:
    """(waiting, running or terminated; its reason; lastState)"""
    spec = simulation.pod.container(name)
    assert spec is not None
    found = container_status(simulation.pod, spec, simulation.state, moment(simulation.now))
    ((kind, detail),) = found["state"].items()
    return kind, detail.get("reason"), found["lastState"]


def test_a_pod_from_bind_to_ready() -> None:
    probe = {"tcpSocket": {"port": 1}, "periodSeconds": 1}
    simulation = Simulation(
        pod(container(readinessProbe=probe), initContainers=[container("i")]),
        lambda name, attempt: Behaviour(runs_s=5 if name == "i" else None),
        lambda name, kind, age_s: age_s > 3,
    )
    first = status_of(simulation)
    assert (first["phase"], "podIP" in first) == ("Pending", False)
    assert conditions_of(first)["PodReadyToStartContainers"] == ("False", None)

    simulation.run(2)
    initializing = status_of(simulation, first)
    assert initializing["phase"] == "Pending"
    assert initializing["podIP"] == ADDRESS
    assert conditions_of(initializing) == {
        "PodReadyToStartContainers": ("True", None), "Initialized": ("False", "ContainersNotInitialized"),
        "Ready": ("False", "ContainersNotReady"), "ContainersReady": ("False", "ContainersNotReady"),
        "PodScheduled": ("True", None),
    }  # fmt: skip
    assert state_of(simulation)[:2] == ("waiting", "PodInitializing")

    simulation.run(7)
    running = status_of(simulation, initializing)
    assert running["phase"] == "Running"
    assert conditions_of(running)["Initialized"] == ("True", None)
    assert conditions_of(running)["Ready"] == ("False", "ContainersNotReady")
    assert running["containerStatuses"][0]["started"] is True
    assert running["initContainerStatuses"][0]["ready"] is True

    simulation.run(12)
    ready = status_of(simulation, running)
    assert conditions_of(ready)["Ready"] == ("True", None)
    assert ready["containerStatuses"][0]["ready"] is True


def test_conditions_keep_the_time_of_their_last_change() -> None:
    simulation = Simulation(pod()).run(1)
    first = status_of(simulation)
    simulation.run(100)
    assert status_of(simulation, first) == first


def test_a_crashing_container_says_so_while_it_waits() -> None:
    """Terminated just after the first crash, CrashLoopBackOff while it waits, with the last end beside it."""
    simulation = Simulation(pod(), lambda name, attempt: Behaviour(1.0, 3)).run(2.03)
    kind, reason, last = state_of(simulation)
    assert (kind, reason) == ("waiting", "CrashLoopBackOff")
    assert last["terminated"]["exitCode"] == 3
    status = status_of(simulation)
    assert status["phase"] == "Running"
    assert status["containerStatuses"][0]["restartCount"] == 1
    assert (
        "back-off 1s restarting failed container=main pod=p_default("
        in (status["containerStatuses"][0]["state"]["waiting"]["message"])
    )


ENDS = {
    ("Never", 0): ("Succeeded", "Completed", "PodCompleted"),
    ("Never", 3): ("Failed", "Error", "PodFailed"),
    ("OnFailure", 0): ("Succeeded", "Completed", "PodCompleted"),
}


@pytest.mark.parametrize(("policy", "code"), ENDS)
def test_a_pod_that_has_ended(policy: str, code: int) -> None:
    phase, reason, condition = ENDS[policy, code]
    simulation = Simulation(pod(restartPolicy=policy), lambda name, attempt: Behaviour(1.0, code)).run(50)
    status = status_of(simulation)
    assert status["phase"] == phase
    assert state_of(simulation)[:2] == ("terminated", reason)
    assert conditions_of(status)["Ready"] == ("False", condition)
    assert conditions_of(status)["PodReadyToStartContainers"] == ("False", None)


def test_a_pod_over_its_deadline_fails_with_the_reason() -> None:
    status = status_of(Simulation(pod(activeDeadlineSeconds=10, restartPolicy="Never")).run(100))
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")


def test_a_deleted_pod_ends_with_the_codes_of_its_containers() -> None:
    """Even under restartPolicy Always: the last status says how it went, and the phase is final."""
    simulation = Simulation(pod()).at(5, deleted).run(100)
    status = status_of(simulation)
    assert status["phase"] == "Failed"
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 143


def test_a_refused_container_waits_with_the_reason() -> None:
    simulation = Simulation(pod(), lambda name, attempt: Behaviour(refused=True)).run(5)
    assert state_of(simulation)[:2] == ("waiting", "CreateContainerConfigError")
    assert status_of(simulation)["phase"] == "Pending"
    assert "containerID" not in status_of(simulation)["containerStatuses"][0]


def test_readiness_gates_hold_a_pod_back() -> None:
    gated = pod(readinessGates=[{"conditionType": "example.org/warm"}])
    simulation = Simulation(gated).run(5)
    known = {"conditions": [{"type": "example.org/warm", "status": "False"}]}
    assert conditions_of(status_of(simulation))["Ready"] == ("False", "ReadinessGatesNotReady")
    assert conditions_of(status_of(simulation))["ContainersReady"] == ("True", None)
    assert conditions_of(status_of(simulation, known))["Ready"] == ("False", "ReadinessGatesNotReady")
    known["conditions"][0]["status"] = "True"
    assert conditions_of(status_of(simulation, known))["Ready"] == ("True", None)


def test_the_generation_is_observed_where_the_server_counts_it() -> None:
    counted = status_of(Simulation(pod(meta={"generation": 7})).run(1))
    assert counted["observedGeneration"] == 7
    assert {condition["observedGeneration"] for condition in counted["conditions"]} == {7}
    assert "observedGeneration" not in status_of(Simulation(pod()).run(1))


def test_the_image_is_said_not_to_be_used() -> None:
    found = status_of(Simulation(pod()).run(1))["containerStatuses"][0]
    assert found["image"] == "python:3.12"
    assert "image-not-used" in found["imageID"]


def test_a_pod_that_ended_stays_ended_whatever_else_is_known() -> None:
    simulation = Simulation(pod()).run(5)
    ended = replace(simulation.state, settled="Succeeded")
    assert pod_phase(simulation.pod, ended) == "Succeeded"


def test_reading_a_pod_takes_kubernetes_defaults() -> None:
    found = PodSpec.parse(pod(container(livenessProbe={"tcpSocket": {"port": 1}})).raw)
    probe = found.containers[0].probes["liveness"]
    assert (found.restart_policy, found.grace_s, found.active_limit_s, found.deletion_grace_s) == (
        "Always",
        30,
        None,
        None,
    )
    assert (probe.period_s, probe.timeout_s, probe.success_threshold, probe.failure_threshold) == (10, 1, 1, 3)

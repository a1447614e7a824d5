"""What silent and unready nodes are taken for, and when their Pods must go."""

from typing import Any

import pytest

from mizzen.local.cluster.nodes.decide import NOT_READY, UNREACHABLE, evicted_in_s, silenced, tainted
from mizzen.local.cluster.nodes.pod_collection import beyond, lost, never_bound

from .builders import NOW, at, condition, node, pod


def test_what_a_silent_node_said_of_itself_is_not_known_any_more() -> None:
    one = node()
    conditions = {c["type"]: (c["status"], c["reason"]) for c in silenced(one, at(9))}
    assert conditions["Ready"] == ("Unknown", "NodeStatusUnknown")
    assert conditions["MemoryPressure"] == ("Unknown", "NodeStatusNeverUpdated")
    again = {**one, "status": {**one["status"], "conditions": silenced(one, at(9))}}
    assert silenced(again, at(99)) == silenced(one, at(9)), "it is said once"


@pytest.mark.parametrize(("ready", "key"), [(False, NOT_READY), (None, UNREACHABLE), (True, None)])
def test_taints_follow_the_condition_and_leave_others_alone(ready: bool | None, key: str | None) -> None:
    mine = {"key": "mine", "effect": "NoSchedule"}
    other = UNREACHABLE if ready is False else NOT_READY
    one = node(taints=[mine, {"key": other, "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}])
    one["status"]["conditions"] = [condition("Ready", ready)]
    taints = tainted(one, NOW)
    assert taints[0] == mine
    assert {(taint["key"], taint["effect"]) for taint in taints[1:]} == (
        {(key, "NoSchedule"), (key, "NoExecute")} if key else set()
    )
    assert tainted({**one, "spec": {"taints": taints}}, at(50)) == taints, "the time of a taint is when it came"


def taint(key: str = NOT_READY, effect: str = "NoExecute") -> dict[str, str]:
    return {"key": key, "effect": effect, "timeAdded": "2026-03-01T12:00:00Z"}


@pytest.mark.parametrize(
    ("tolerations", "taints", "wait_s"),
    [
        ([], [], None),
        ([], [taint(effect="NoSchedule")], None),
        ([], [taint("mine")], 0.0),
        ([], [taint()], 240.0),
        ([{"key": NOT_READY, "operator": "Exists"}], [taint()], None),
        ([{"operator": "Exists"}], [taint(), taint("mine")], None),
        ([{"key": NOT_READY, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 100}], [taint()], 40.0),
        ([{"key": NOT_READY, "operator": "Exists", "tolerationSeconds": 30}], [taint()], 0.0),
        ([{"key": NOT_READY, "operator": "Exists", "tolerationSeconds": 0}], [taint()], 0.0),
        ([{"key": NOT_READY, "operator": "Exists"}], [taint(), taint("mine")], 0.0),
        ([{"key": "mine", "operator": "Exists", "tolerationSeconds": 100},
          {"key": "mine", "operator": "Exists", "tolerationSeconds": 90}], [taint("mine")], 30.0),
    ],
)  # fmt: skip
def test_when_a_pod_must_leave(tolerations: list[Any], taints: list[Any], wait_s: float | None) -> None:
    assert evicted_in_s(pod(spec={"tolerations": tolerations}), taints, at(60)) == wait_s


def test_pods_that_nobody_will_ever_end() -> None:
    unbound = pod(deleted=True)
    assert never_bound([unbound, pod(deleted=True, node="n"), pod()]) == [unbound]
    old, young = (pod(phase="Succeeded", created=at(seconds)) for seconds in (0, 9))
    assert beyond([young, old, pod(phase="Running"), pod(phase="Failed", deleted=True)], most=1) == [old]
    assert beyond([young, old], most=2) == []
    assert lost(pod(phase="Running"), NOW)["phase"] == "Failed"
    assert lost(pod(phase="Succeeded"), NOW)["phase"] == "Succeeded"
    assert lost(pod(), NOW)["conditions"][0]["reason"] == "DeletionByPodGC"

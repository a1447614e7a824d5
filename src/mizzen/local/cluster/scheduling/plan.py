"""Where all waiting Pods go: a pure plan on a snapshot of Pods and nodes.

1. Nodes are charged with the Pods that are bound to them and not finished.
2. Waiting Pods are taken by priority, then age.
3. Each goes to the best of the nodes that no filter refuses, and is charged to it at once, so that the next sees it.
4. Those that no node takes get the reasons, counted over the nodes.

What kube-scheduler does beyond this and we do not: affinity between Pods, topology spread constraints, volumes,
preemption of lesser Pods.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from mizzen.local.cluster.objects import Object, controller_uid, is_deleted, labels_of, spec_of
from mizzen.local.cluster.pods import is_finished, node_of
from mizzen.local.cluster.scheduling.amounts import requests_of
from mizzen.local.cluster.scheduling.fit import Candidate, refusals, tolerates
from mizzen.local.cluster.selectors import matches_node_selector

SCHEDULER_NAME = "default-scheduler"


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one Pod: the node it goes to, or why it goes to none."""

    pod: Object
    node: str | None
    message: str = ""


def is_waiting(pod: Object) -> bool:
    """Whether it is for us to find a node for the Pod."""
    spec = spec_of(pod)
    ours = (spec.get("schedulerName") or SCHEDULER_NAME) == SCHEDULER_NAME
    held = is_deleted(pod) or is_finished(pod) or spec.get("schedulingGates")
    return ours and not node_of(pod) and not held


def plan(waiting: Iterable[Object], nodes: Iterable[Object], placed: Iterable[Object]) -> list[Decision]:
    """Decides for all waiting Pods; `placed` are the Pods that are bound, or about to be."""
    candidates = {candidate.name: candidate for candidate in map(Candidate.of, nodes)}
    for pod in placed:
        candidate = candidates.get(node_of(pod))
        if candidate is not None and not is_finished(pod):
            candidate.take(pod)
    decisions = []
    for pod in sorted(waiting, key=_turn):
        decision = _decide(pod, list(candidates.values()))
        if decision.node is not None:
            candidates[decision.node].take(pod)
        decisions.append(decision)
    return decisions


def _turn(pod: Object) -> tuple[int, str, str, str]:
    meta = pod["metadata"]
    priority = spec_of(pod).get("priority") or 0
    return -priority, meta.get("creationTimestamp") or "", meta.get("namespace") or "", meta["name"]


def _decide(pod: Object, candidates: list[Candidate]) -> Decision:
    refused: Counter[str] = Counter()
    taking = []
    for candidate in candidates:
        reasons = refusals(pod, candidate)
        if reasons:
            refused.update(reasons)
        else:
            taking.append(candidate)
    if taking:
        # Of equals the first by name, so that the same state gives the same plan.
        best = min(taking, key=lambda candidate: (-score(pod, candidate), candidate.name))
        return Decision(pod, best.name)
    if not candidates:
        return Decision(pod, None, "no nodes available to schedule pods")
    reasons = sorted(f"{count} {reason}" for reason, count in refused.items())
    return Decision(pod, None, f"0/{len(candidates)} nodes are available: {', '.join(reasons)}.")


def score(pod: Object, candidate: Candidate) -> float:
    """How well a node suits, more is better: what is left, preferences, and fewer Pods of the same controller."""
    wanted = requests_of(pod)
    left = []
    for name in ("cpu", "memory"):
        has = candidate.allocatable.get(name, Decimal(0))
        used = candidate.used.get(name, Decimal(0)) + wanted.get(name, Decimal(0))
        left.append(float(max(Decimal(0), has - used) / has) if has else 0.0)
    free = sum(left) / len(left)
    balance = 1.0 - abs(left[0] - left[1])
    spread = 1.0 / (1 + candidate.controllers.get(controller_uid(pod) or "", 0))
    return free + balance + 2.0 * spread + 2.0 * _preference(pod, candidate) - _dislike(pod, candidate)


def _preference(pod: Object, candidate: Candidate) -> float:
    """How much of the Pod's preferred node affinity is met, from 0 to 1."""
    affinity = (spec_of(pod).get("affinity") or {}).get("nodeAffinity") or {}
    preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    all_weights = sum(one.get("weight") or 0 for one in preferred)
    if not all_weights:
        return 0.0
    labels = labels_of(candidate.node)
    met = sum(
        one.get("weight") or 0
        for one in preferred
        if matches_node_selector([one.get("preference") or {}], labels, candidate.name)
    )
    return float(met / all_weights)


def _dislike(pod: Object, candidate: Candidate) -> float:
    """How many taints the Pod would rather not meet."""
    taints = spec_of(candidate.node).get("taints") or ()
    return 3.0 * sum(1 for taint in taints if taint.get("effect") == "PreferNoSchedule" and not tolerates(pod, taint))

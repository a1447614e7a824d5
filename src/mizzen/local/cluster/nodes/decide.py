"""What a silent node is taken for, which taints it gets, and when its Pods must go. Pure.

A node that renews its Lease says itself whether it is ready. One that has not for `GRACE_S` is `Unknown`. Both ways of
not being ready are taints: `NoSchedule` keeps new Pods away, `NoExecute` sends those away that do not tolerate it, and
those that tolerate it for a time after that time.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from mizzen.kube.conditions import condition
from mizzen.kube.resources import Json
from mizzen.kube.times import format_time, parse_time
from mizzen.local.cluster.objects import Object, spec_of, status_of
from mizzen.local.cluster.pods import EPOCH
from mizzen.local.cluster.scheduling.fit import covers

GRACE_S = 40.0
"""How long a Lease may stay as it is before its node counts as silent. The kubelet renews every 10 s."""
NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
_DEFAULT_TOLERATION_S = 300.0
"""What a Pod tolerates that says nothing of these two taints; API servers write it into Pods."""
_SILENT_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


def silenced(node: Object, now: datetime) -> list[Json]:
    """The conditions of a node that has fallen silent: what it said of itself is not known any more."""
    kept = [dict(one) for one in status_of(node).get("conditions") or ()]
    known = {one["type"] for one in kept}
    never_said = {
        "status": "Unknown",
        "reason": "NodeStatusNeverUpdated",
        "message": "Kubelet never posted node status.",
        "lastTransitionTime": format_time(now),
    }
    kept += [{"type": type_, **never_said} for type_ in _SILENT_CONDITIONS if type_ not in known]
    for one in kept:
        if one["type"] in _SILENT_CONDITIONS and one["status"] != "Unknown":
            one |= {
                "status": "Unknown",
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
                "lastTransitionTime": format_time(now),
            }
    return kept


def tainted(node: Object, now: datetime) -> list[Json]:
    """The taints that the node should have: those it has, and what its condition `Ready` calls for."""
    ready = (condition(status_of(node).get("conditions"), "Ready") or {}).get("status", "Unknown")
    wanted = {"False": NOT_READY, "Unknown": UNREACHABLE}.get(ready)
    had = [dict(one) for one in spec_of(node).get("taints") or ()]
    kept = [one for one in had if one["key"] not in {NOT_READY, UNREACHABLE} or one["key"] == wanted]
    if wanted is None:
        return kept
    effects = {one["effect"] for one in kept if one["key"] == wanted}
    for effect in ("NoSchedule", "NoExecute"):
        if effect not in effects:
            added: Json = {"key": wanted, "effect": effect}
            kept.append(added | ({"timeAdded": format_time(now)} if effect == "NoExecute" else {}))
    return kept


def evicted_in_s(pod: Object, taints: Iterable[Mapping[str, Any]], now: datetime) -> float | None:
    """In how many seconds the Pod must leave because of the node's `NoExecute` taints; `None`: it may stay.

    Each taint must be tolerated; of several tolerations with a time the shortest counts, as in Kubernetes.
    """
    waits = []
    for taint in taints:
        if taint.get("effect") != "NoExecute":
            continue
        since = parse_time(taint.get("timeAdded")) or EPOCH
        allowed_s = _tolerated_s(pod, taint)
        if allowed_s is not None:
            waits.append(max(0.0, allowed_s - (now - since).total_seconds()) if allowed_s > 0 else 0.0)
    return min(waits) if waits else None


def _tolerated_s(pod: Object, taint: Mapping[str, Any]) -> float | None:
    """For how long the Pod tolerates the taint; `None` for ever, 0 not at all."""
    tolerations = spec_of(pod).get("tolerations") or ()
    covering = [one for one in tolerations if covers(one, taint)]
    if not covering:
        named = any(one.get("key") == taint.get("key") for one in tolerations)
        ours = taint.get("key") in {NOT_READY, UNREACHABLE}
        return _DEFAULT_TOLERATION_S if ours and not named else 0.0
    times = [one["tolerationSeconds"] for one in covering if one.get("tolerationSeconds") is not None]
    return float(min(times)) if times else None

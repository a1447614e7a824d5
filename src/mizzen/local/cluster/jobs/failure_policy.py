"""What a Pod's failure means to its Job: counted, passed over, or the end of it all. Pure.

Rules are tried in order; of the first that matches the action counts. With no rule, or none that matches, the failure
is counted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mizzen.local.cluster.objects import Object, name_of, namespace_of, spec_of, status_of


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the failure counts against the backoff limit, and why the Job fails at once, if it does."""

    counts: bool = True
    fails_job: str = ""


def verdict(job: Object, pod: Object) -> Verdict:
    """What the Job's `podFailurePolicy` says of a failed Pod."""
    for number, rule in enumerate((spec_of(job).get("podFailurePolicy") or {}).get("rules") or ()):
        why = _match(rule, pod)
        if why is None:
            continue
        if rule["action"] == "Ignore":
            return Verdict(counts=False)
        if rule["action"] == "FailJob":
            return Verdict(fails_job=f"{why} matching FailJob rule at index {number}")
        return Verdict()
    return Verdict()


def _match(rule: Mapping[str, Any], pod: Object) -> str | None:
    """What of the Pod the rule matches, in words."""
    who = f"{namespace_of(pod)}/{name_of(pod)}"
    if rule.get("onExitCodes"):
        status = status_of(pod)
        ended = _ended(status.get("containerStatuses")) + _ended(status.get("initContainerStatuses"))
        for container, code in ended:
            if _has_code(rule["onExitCodes"], container, code):
                return f"Container {container} for pod {who} failed with exit code {code}"
        return None
    for condition in status_of(pod).get("conditions") or ():
        for pattern in rule.get("onPodConditions") or ():
            if (condition["type"], condition["status"]) == (pattern["type"], pattern.get("status") or "True"):
                return f"Pod {who} has condition {condition['type']}"
    return None


def _ended(statuses: Iterable[Mapping[str, Any]] | None) -> list[tuple[str, int]]:
    """Containers that failed, with their exit codes."""
    codes = [
        (status["name"], (((status.get("state") or {}).get("terminated")) or {}).get("exitCode") or 0)
        for status in statuses or ()
    ]
    return [(name, code) for name, code in codes if code]


def _has_code(wanted: Mapping[str, Any], container: str, code: int) -> bool:
    if wanted.get("containerName") not in {None, container}:
        return False
    return bool((code in wanted["values"]) == (wanted["operator"] == "In"))

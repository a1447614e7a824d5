"""Which model version of an endpoint gets traffic, and which worker Deployments there should be.

One rule: a new version takes over only when all its workers are ready; until then the old one keeps the traffic and its
workers. A version that does not come up in time, or that crashes again and again, is given up and never gets a request.
It is tried anew when the endpoint is changed, and by itself after ever longer waits: what it failed for may have been
the machine.

The version that had the traffic before can be kept warm for a while (`keepPrevious`), with as many workers as the one
that has it now: a way back is then a switch and not a start. While it is, a successor whose workers become ready and
die again and again loses the traffic to it by itself, and is given up like one that never came up.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mizzen.kinds.build import ModelFormat
from mizzen.kinds.serve import Candidate, Previous, Traffic

CRASHES_MAX_SERVING = 2
"""Restarts of a version's worker since it got the traffic after which its predecessor gets it back."""
CRASHES_MAX = 3
"""Restarts of a candidate's worker after which it is given up before its time."""
FAILED_ON_MAX = 10
RETRY_S_FIRST, RETRY_S_MAX = 60.0, 3600.0
"""How long a version that was given up is left alone: doubled each time."""


@dataclass(frozen=True, slots=True)
class Version:
    """A model version as the endpoint sees it."""

    name: str
    model: str
    version: int
    digest: str
    format: ModelFormat = "onnx"
    trusted: tuple[str, ...] = ()
    """Types of it that the model's owner approved."""


@dataclass(frozen=True, slots=True)
class Workers:
    """What is seen of one version's workers. `age_s`: since the Deployment was made."""

    wanted: int
    ready: int
    restarts: int = 0
    age_s: float = 0.0
    trouble: str = ""
    """Why a worker is not ready, in words, where that is known."""
    troubled_on: tuple[str, ...] = ()
    """The nodes of those that are not."""
    template_current: bool = True
    """Whether the ready workers are of the present Pod template."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The decision. `deployments` are the versions whose workers should exist; all others should not."""

    traffic: Version | None
    candidate: Candidate | None
    deployments: tuple[Version, ...]
    switched: bool = False
    gave_up: bool = False
    look_again_s: float | None = None
    """When time alone may change the decision."""
    previous: Version | None = None
    """What had the traffic before and is kept warm."""


def decide(
    *,
    target: Version | None,
    current: Traffic | None,
    candidate: Candidate | None,
    candidate_age_s: float = 0.0,
    workers: Mapping[str, Workers],
    replicas: int,
    start_timeout_s: float,
    spec_changed: bool,
    now: str,
    previous: Previous | None = None,
    previous_left_s: float = 0.0,
    keeps_previous: bool = False,
) -> Plan:
    """What should be served and run.

    `target` is what the endpoint asks for, `None` where that cannot be told (the reason is told elsewhere); `current`
    what has the traffic; `candidate_age_s` how long the candidate has been in its phase; `workers` by `ModelVersion`
    name; `spec_changed` whether the endpoint changed since the candidate was judged; `previous` what is kept warm,
    for `previous_left_s` more; `keeps_previous` whether what loses the traffic now is to be kept.
    """
    serving = None if current is None else version_of(current)
    kept = () if serving is None else (serving,)
    warm = version_of(previous) if previous is not None and previous_left_s > 0 else None
    if warm is not None and warm == target and warm.name in workers:
        # It was up before: what counts against it is the time since it was asked for again.
        workers = {**workers, warm.name: replace(workers[warm.name], age_s=candidate_age_s, restarts=0)}
    seen = workers.get(serving.name) if serving is not None else None
    if warm is not None and previous is not None and target is not None and target == serving and seen is not None:
        crashed = seen.restarts - previous.restarts
        if crashed >= CRASHES_MAX_SERVING:
            why = f"its workers came up and died {crashed} times" + (f": {seen.trouble}" if seen.trouble else "")
            attempts = previous.attempts
            given_up = _candidate(target, "Failed", now, why, attempts, seen.troubled_on)
            return Plan(warm, given_up, (warm,), gave_up=True, look_again_s=retry_after_s(attempts))
    plan = _decide(
        serving, kept, target, candidate, candidate_age_s, workers, replicas, start_timeout_s, spec_changed, now
    )
    if plan.switched:
        warm = serving if keeps_previous else None
        previous_left_s = math.inf
    if warm is None:
        return plan
    wakes = [wait_s for wait_s in (plan.look_again_s, previous_left_s) if wait_s is not None and wait_s < math.inf]
    also = () if warm in plan.deployments else (warm,)
    return replace(plan, previous=warm, deployments=(*plan.deployments, *also), look_again_s=min(wakes, default=None))


def _decide(
    serving: Version | None,
    kept: tuple[Version, ...],
    target: Version | None,
    candidate: Candidate | None,
    candidate_age_s: float,
    workers: Mapping[str, Workers],
    replicas: int,
    start_timeout_s: float,
    spec_changed: bool,
    now: str,
) -> Plan:
    """What gets the traffic, and what is on its way."""
    if target is None or target == serving:
        return Plan(serving, None, kept)
    if candidate is not None and (candidate.model_version, candidate.digest) != (target.name, target.digest):
        candidate = None
    failed = candidate is not None and candidate.phase == "Failed"
    if candidate is not None and failed and not spec_changed:
        left_s = retry_after_s(candidate.attempts) - candidate_age_s
        if left_s > 0:
            return Plan(serving, candidate, kept, look_again_s=left_s)
    seen = None if failed else workers.get(target.name)
    attempts = 1 if candidate is None or spec_changed else candidate.attempts + failed
    if seen is not None and seen.wanted == replicas and seen.ready >= replicas and seen.template_current:
        return Plan(target, None, (target,), switched=True)
    trouble = seen.trouble if seen is not None else ""
    if seen is not None and (seen.age_s > start_timeout_s or seen.restarts >= CRASHES_MAX):
        why = trouble or f"{seen.ready} of {replicas} workers ready after {seen.age_s:.0f} s"
        before = candidate.failed_on if candidate is not None else []
        failed_on = list(dict.fromkeys([*before, *seen.troubled_on]))[-FAILED_ON_MAX:]
        given_up = _candidate(target, "Failed", now, why, attempts, failed_on)
        return Plan(serving, given_up, kept, gave_up=True, look_again_s=retry_after_s(attempts))
    since = now if candidate is None or failed else candidate.since
    starting = _candidate(
        target, "Starting", since, trouble, attempts, candidate.failed_on if candidate is not None else []
    )
    return Plan(serving, starting, (*kept, target), look_again_s=start_timeout_s)


def retry_after_s(attempts: int) -> float:
    """How long a version that was given up so often is left alone."""
    return float(min(RETRY_S_FIRST * 2 ** min(attempts - 1, 16), RETRY_S_MAX))


def version_of(traffic: Traffic) -> Version:
    """The version that has the traffic: known from the status alone, so that it outlives its object."""
    return Version(
        traffic.model_version, traffic.model, traffic.version, traffic.digest, traffic.format,
        tuple(traffic.trusted_types),
    )  # fmt: skip


def _candidate(
    target: Version,
    phase: Literal["Starting", "Failed"],
    since: str,
    message: str,
    attempts: int,
    failed_on: Sequence[str],
) -> Candidate:
    return Candidate(
        model_version=target.name,
        version=target.version,
        digest=target.digest,
        phase=phase,
        since=since,
        message=message,
        attempts=attempts,
        failed_on=list(failed_on),
    )

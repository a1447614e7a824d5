"""Which model version of an endpoint gets traffic, and which worker Deployments there should be.

One rule: a new version takes over only when all its workers are ready; until then the old one keeps the traffic and its
workers. A version that does not come up in time, or that crashes again and again, is given up and never gets a request;
it is tried anew only when the endpoint is changed or another version is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mizzen.kinds.build import ModelFormat
from mizzen.kinds.serve import Candidate, Traffic

CRASHES_MAX = 3
"""Restarts of a candidate's worker after which it is given up before its time: it will not come up by trying again."""


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


def decide(
    *,
    target: Version | None,
    current: Traffic | None,
    candidate: Candidate | None,
    workers: Mapping[str, Workers],
    replicas: int,
    start_timeout_s: float,
    spec_changed: bool,
    now: str,
) -> Plan:
    """What should be served and run.

    `target` is what the endpoint asks for, `None` where that cannot be told (the reason is told elsewhere); `current`
    what has the traffic; `workers` by `ModelVersion` name; `spec_changed` whether the endpoint changed since the
    candidate was judged.
    """
    serving = None if current is None else version_of(current)
    kept = () if serving is None else (serving,)
    if target is None or target == serving:
        return Plan(serving, None, kept)
    same = candidate is not None and candidate.model_version == target.name and candidate.digest == target.digest
    if candidate is not None and same and candidate.phase == "Failed" and not spec_changed:
        return Plan(serving, candidate, kept)
    seen = workers.get(target.name)
    if seen is not None and seen.wanted == replicas and seen.ready >= replicas and seen.template_current:
        return Plan(target, None, (target,), switched=True)
    trouble = seen.trouble if seen is not None else ""
    if seen is not None and (seen.age_s > start_timeout_s or seen.restarts >= CRASHES_MAX):
        why = trouble or f"{seen.ready} of {replicas} workers ready after {seen.age_s:.0f} s"
        return Plan(serving, _candidate(target, "Failed", now, why), kept, gave_up=True)
    since = candidate.since if candidate is not None and same and candidate.phase == "Starting" else now
    return Plan(serving, _candidate(target, "Starting", since, trouble), (*kept, target))


def version_of(traffic: Traffic) -> Version:
    """The version that has the traffic: known from the status alone, so that it outlives its object."""
    return Version(
        traffic.model_version, traffic.model, traffic.version, traffic.digest, traffic.format,
        tuple(traffic.trusted_types),
    )  # fmt: skip


def _candidate(target: Version, phase: Literal["Starting", "Failed"], since: str, message: str) -> Candidate:
    return Candidate(
        model_version=target.name,
        version=target.version,
        digest=target.digest,
        phase=phase,
        since=since,
        message=message,
    )

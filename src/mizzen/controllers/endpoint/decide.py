"""What an endpoint serves next: its reference resolved, `policy.rollout` asked, and the answer put into its status."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mizzen.controllers.conditions import Happened, Moment
from mizzen.controllers.endpoint.sizes import needed
from mizzen.controllers.endpoint.workers import selector
from mizzen.controllers.model.decide import unapproved
from mizzen.controllers.settings import PlatformSettings
from mizzen.kinds import InferenceEndpoint, Model, ModelVersion
from mizzen.kinds.meta import condition_named
from mizzen.kinds.names import ModelReference
from mizzen.kinds.scalars import duration_s, quantity
from mizzen.kinds.serve import InferenceEndpointStatus, Previous, StartTimes, Traffic, WorkerStatus
from mizzen.kube.times import format_time
from mizzen.policy import rollout
from mizzen.policy.rollout import Plan, Version, Workers

READY, RESOLVED, WORKERS_READY = "Ready", "ModelResolved", "WorkersReady"


@dataclass(frozen=True, slots=True)
class Decision:
    """`deployments` are the versions whose workers should run; `status` is the whole new status."""

    status: InferenceEndpointStatus
    deployments: tuple[Version, ...]
    events: tuple[Happened, ...] = ()
    look_again_s: float | None = None
    """When time alone may change the decision."""


def resolved(
    text: str, path: str, model: Model | None, versions: Mapping[int, ModelVersion], memory: str | None = None
) -> Version | tuple[str, str]:
    """The version that a reference at `path` means, or (reason, message) why there is none. `versions`: by number;
    `memory`: what a worker may take.
    """
    reference = ModelReference.parse(text)
    if model is None:
        return "ModelMissing", f"{path}: expected an existing Model, found no {reference.name}"
    number = reference.version
    if reference.alias is not None:
        alias = next((alias for alias in model.status.aliases if alias.name == reference.alias), None)
        if alias is None:
            have = ", ".join(alias.name for alias in model.status.aliases) or "none"
            ready = condition_named(model.status.conditions, READY)
            why = f". {ready.message}" if ready is not None and ready.status == "False" and ready.message else ""
            return "AliasMissing", f"model {reference.name} has no alias {reference.alias} yet (aliases: {have}){why}"
        number = alias.version
    version = versions.get(number or 0)
    if version is None:
        have = ", ".join(map(str, sorted(versions))) or "none"
        return "VersionMissing", f"{path}: expected a version of {reference.name} ({have}), got {number}"
    held_back = unapproved(model, version)
    if held_back is not None:
        return "UntrustedTypes", held_back.message
    artifact = version.spec.artifact
    if memory is not None and artifact.bytes > quantity(memory):
        need, have = _mebibytes(artifact.bytes), _mebibytes(int(quantity(memory)))
        return "TooLarge", (
            f"{path}: {version.spec.model}:{number} takes {need} as it is stored, and a worker may take {have} "
            f"(spec.worker.resources.memory: {memory}): it cannot be loaded; ask for more than {need}"
        )
    trusted = tuple(artifact.untrusted_types)
    return Version(version.name, version.spec.model, version.spec.version, artifact.digest, artifact.format, trusted)


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"


def decide(
    endpoint: InferenceEndpoint,
    target: Version | tuple[str, str],
    workers: Mapping[str, Workers],
    settings: PlatformSettings,
    now: str,
    seen: Sequence[WorkerStatus] = (),
    *,
    replicas: int | None = None,
) -> Decision:
    """The decision for one endpoint; `workers` by ModelVersion name, `seen` each worker process by itself. `replicas`:
    how many the version asked for should have, by default the spec's number.
    """
    spec = endpoint.spec
    moment = Moment(endpoint.metadata.generation or 0, now)
    status = endpoint.status.model_copy(deep=True)
    current = status.traffic[0] if status.traffic else None
    kept_s = duration_s(spec.rollout.keep_previous)
    plan = rollout.decide(
        target=target if isinstance(target, Version) else None,
        current=current,
        candidate=status.candidate,
        candidate_age_s=seconds_between(status.candidate.since, now) if status.candidate is not None else 0.0,
        workers=workers,
        replicas=spec.scaling.replicas if replicas is None else replicas,
        start_timeout_s=duration_s(spec.worker.start_timeout),
        spec_changed=status.observed_generation != moment.generation,
        now=now,
        previous=status.previous,
        previous_left_s=kept_s - seconds_between(status.previous.since, now) if status.previous is not None else 0.0,
        keeps_previous=kept_s > 0,
    )
    status.candidate, status.graph = plan.candidate, None
    status.previous = _previous(endpoint, plan, workers, now)
    status.last_start = _last_start(status, seen)
    status.workers = list(seen)
    if isinstance(target, Version):
        moment.state(status, RESOLVED, "True", "Resolved", f"{spec.model} is {target.model}:{target.version}")
    else:
        moment.state(status, RESOLVED, "False", *target)
    _serve(endpoint, status, plan, workers, settings)
    serving = workers.get(plan.traffic.name) if plan.traffic is not None else None
    _state_ready(endpoint, status, plan, target, serving.trouble if serving is not None else "", moment)
    return Decision(status, plan.deployments, _events(endpoint, plan, target, seen), plan.look_again_s)


def _last_start(before: InferenceEndpointStatus, seen: Sequence[WorkerStatus]) -> StartTimes | None:
    """Of a worker that is ready since the last look, or has told more since; else as it was."""
    known = {worker.pod: worker.start for worker in before.workers}
    fresh = [worker.start for worker in seen if worker.start is not None and known.get(worker.pod) != worker.start]
    return fresh[-1] if fresh else before.last_start


def _previous(endpoint: InferenceEndpoint, plan: Plan, workers: Mapping[str, Workers], now: str) -> Previous | None:
    """What is kept warm from now on."""
    if plan.previous is None:
        return None
    if plan.switched and endpoint.status.traffic:
        lost = endpoint.status.traffic[0].model_dump(exclude={"percent"})
        candidate, taking = endpoint.status.candidate, workers.get(plan.traffic.name) if plan.traffic else None
        attempts = candidate.attempts if candidate is not None else 1
        restarts = taking.restarts if taking is not None else 0
        return Previous(**lost, percent=0, since=now, attempts=attempts, restarts=restarts)
    return endpoint.status.previous


def seconds_between(since: str, now: str) -> float:
    """Of two times in RFC 3339."""
    return (datetime.fromisoformat(now) - datetime.fromisoformat(since)).total_seconds()


def url_of(endpoint: InferenceEndpoint, settings: PlatformSettings) -> str:
    """Where it answers."""
    prefix = "" if endpoint.namespace == "default" else f"/namespaces/{endpoint.namespace}"
    return f"{settings.gateway_url}{prefix}/v2/models/{endpoint.name}"


def traffic_of(version: Version, told: Sequence[WorkerStatus], before: Sequence[Traffic]) -> Traffic:
    """All requests to that version; `told` is what workers tell of themselves, `before` what got the traffic. Where no
    worker tells now, its memory is as it was known.
    """
    own = [worker for worker in told if worker.model_version == version.name]
    known = next((traffic for traffic in before if traffic.digest == version.digest), None)
    measured = [worker.memory_bytes for worker in own if worker.memory_bytes is not None]
    peaks = [one.peak_bytes for one in (*own, known) if one is not None and one.peak_bytes is not None]
    return Traffic(
        model_version=version.name,
        model=version.model,
        version=version.version,
        digest=version.digest,
        percent=100,
        format=version.format,
        trusted_types=list(version.trusted),
        memory_bytes=max(measured) if measured else known.memory_bytes if known is not None else None,
        peak_bytes=max(peaks, default=None),
    )


def _serve(
    endpoint: InferenceEndpoint,
    status: InferenceEndpointStatus,
    plan: Plan,
    workers: Mapping[str, Workers],
    settings: PlatformSettings,
) -> None:
    """What gets traffic, and the numbers of its workers."""
    status.url = url_of(endpoint, settings)
    serving = plan.traffic
    if serving is None:
        status.traffic, status.serving, status.replicas, status.ready_replicas, status.selector = [], None, 0, 0, ""
        return
    status.traffic = [traffic_of(serving, status.workers, status.traffic)]
    status.serving = f"{serving.model}:{serving.version}"
    seen = workers.get(serving.name)
    status.replicas = seen.wanted if seen is not None else 0
    status.ready_replicas = seen.ready if seen is not None else 0
    status.selector = selector(endpoint, serving)


def _state_ready(
    endpoint: InferenceEndpoint,
    status: InferenceEndpointStatus,
    plan: Plan,
    target: Version | tuple[str, str],
    trouble: str,
    moment: Moment,
) -> None:
    """Ready: what the endpoint asks for is what answers, by as many workers as it asks for."""
    enough = plan.traffic is not None and status.ready_replicas >= needed(endpoint, trouble)
    why = f": {trouble}" if trouble and not enough else ""
    wanted = max(status.replicas, needed(endpoint, trouble))
    counted = f"{status.ready_replicas} of {wanted} workers ready{why}" if wanted else "idle; a request starts a worker"
    moment.state(status, WORKERS_READY, "True" if enough else "False", "Ready" if enough else "WorkersMissing", counted)
    meanwhile = f"; {status.serving} stays served" if status.serving is not None else ""
    candidate = plan.candidate
    if not isinstance(target, Version):
        reason, message = target
        moment.state(status, READY, "False", reason, message + meanwhile)
    elif candidate is not None and candidate.phase == "Failed":
        wait = timedelta(seconds=rollout.retry_after_s(candidate.attempts))
        again = format_time(datetime.fromisoformat(candidate.since) + wait)
        message = f"version {candidate.version} did not come up: {candidate.message}{meanwhile}; next try at {again}"
        moment.state(status, READY, "False", "VersionFailed", message)
    elif candidate is not None:
        said = f" ({candidate.message})" if candidate.message else ""
        message = f"version {candidate.version} is being brought up{said}{meanwhile}"
        moment.state(status, READY, "False", "VersionStarting", message)
    elif not enough:
        moment.state(status, READY, "False", "WorkersMissing", f"{status.serving}: {counted}")
    else:
        moment.state(status, READY, "True", "Serving", f"{status.serving} answers: {counted}")


def _events(
    endpoint: InferenceEndpoint, plan: Plan, target: Version | tuple[str, str], seen: Sequence[WorkerStatus]
) -> tuple[Happened, ...]:
    events: list[Happened] = []
    before = endpoint.status
    if plan.switched and plan.traffic is not None:
        old = f" in place of {before.serving}" if before.serving is not None else ""
        events.append(Happened("Normal", "Serving", f"{plan.traffic.model}:{plan.traffic.version} answers{old}"))
    if plan.gave_up and plan.candidate is not None:
        what = f"version {plan.candidate.version} was given up: {plan.candidate.message}"
        events.append(Happened("Warning", "VersionFailed", what))
    if not isinstance(target, Version):
        resolved = condition_named(before.conditions, RESOLVED)
        if resolved is None or resolved.reason != target[0]:
            events.append(Happened("Warning", *target))
    return (*events, *_crashes(before.workers, seen))


def _crashes(before: Sequence[WorkerStatus], seen: Sequence[WorkerStatus]) -> list[Happened]:
    """One event for each worker that crashed since it was last looked at."""
    known = {worker.pod: worker for worker in before}
    events = []
    for worker in seen:
        crash, old = worker.last_crash, known.get(worker.pod)
        if crash is not None and (old is None or old.last_crash is None or old.last_crash.at != crash.at):
            what = f"worker {worker.pod} of {worker.model_version}: {crash.reason}: {crash.message}"
            events.append(Happened("Warning", "WorkerCrashed", what))
    return events

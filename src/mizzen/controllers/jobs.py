"""The Jobs that do the work of a resource: how one is made, and how it came out.

A Job is named after what it is to do, so that a controller which looks again, or starts anew, finds it instead of
making a second one. Its Pod gets all it needs in `MIZZEN_TASK`. Exit code 1 is the user's fault and ends the Job;
anything else (a lost node, a kill) is tried again as often as the resource says.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from lightkube.models.batch_v1 import (
    JobSpec,
    PodFailurePolicy,
    PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
)
from lightkube.models.core_v1 import (
    Container,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    PodSpec,
    PodTemplateSpec,
    ResourceRequirements,
    SecretEnvSource,
    SecretKeySelector,
)
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.models.meta_v1 import OwnerReference as OwnerReferenceModel
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Pod

from mizzen.controllers.settings import PlatformSettings
from mizzen.kinds import Resource
from mizzen.kinds.names import LABEL_RUN, RUNNER_SERVICE_ACCOUNT
from mizzen.kinds.pods import EnvValue, PodOptions, Resources
from mizzen.kinds.scalars import duration_s

CONTAINER = "main"
EXIT_USER_FAULT = 1
TTL_S_FINISHED = 24 * 3600
"""A finished Job and its logs are kept for a day."""
STORE_SECRET = "mizzen-store"  # noqa: S105 - a name
"""A Secret of the namespace with the environment that opens the store (`AWS_ACCESS_KEY_ID`, …), where there is one."""
MANAGED_BY = {"app.kubernetes.io/managed-by": "mizzen"}


def run_name(owner: Resource, occasion: str = "") -> str:
    """The name of the Job for the present generation of `owner`, and for one of several occasions in it.

    It holds a digest of the owner's uid, so that an object made anew under the same name has runs of its own.
    """
    generation = owner.metadata.generation or 0
    tag = hashlib.sha256(f"{owner.metadata.uid}{occasion}".encode()).hexdigest()[: 10 if occasion else 6]
    return f"{owner.name[:40].rstrip('-')}-{generation}-{tag}"


def owner_reference(owner: Resource) -> OwnerReferenceModel:
    """The controller reference to one of our objects."""
    return OwnerReferenceModel(
        apiVersion=owner.api_version,
        kind=owner.kind,
        name=owner.name,
        uid=owner.metadata.uid or "",
        controller=True,
        blockOwnerDeletion=True,
    )


def environment(task: Mapping[str, Any], values: Iterable[EnvValue]) -> list[EnvVar]:
    """The container's environment: the task, then what the user asked for."""
    given = [EnvVar("MIZZEN_TASK", json.dumps(task, separators=(",", ":"), sort_keys=True))]
    for value in values:
        if value.secret is not None:
            reference = SecretKeySelector(key=value.secret.key, name=value.secret.name)
            given.append(EnvVar(value.name, valueFrom=EnvVarSource(secretKeyRef=reference)))
        else:
            given.append(EnvVar(value.name, value.value or ""))
    return given


def requirements(resources: Resources) -> ResourceRequirements:
    """Both are asked for; memory is also the limit. Processor time that nobody asked for may be used by all."""
    return ResourceRequirements(
        requests={"cpu": resources.cpu, "memory": resources.memory}, limits={"memory": resources.memory}
    )


def store_environment() -> list[EnvFromSource]:
    """What opens the store, from the Secret of the namespace where there is one."""
    return [EnvFromSource(secretRef=SecretEnvSource(name=STORE_SECRET, optional=True))]


def job_for(
    owner: Resource, run: str, module: str, task: Mapping[str, Any], options: PodOptions, settings: PlatformSettings
) -> Job:
    """The Job that runs `python -m module` on `task`."""
    labels = {**MANAGED_BY, LABEL_RUN: run}
    container = Container(
        name=CONTAINER,
        image=settings.image,
        command=["python", "-m", module],
        env=environment(task, options.env),
        envFrom=store_environment(),
        resources=requirements(options.resources),
        terminationMessagePolicy="FallbackToLogsOnError",
    )
    pod = PodSpec(
        containers=[container],
        restartPolicy="Never",
        serviceAccountName=RUNNER_SERVICE_ACCOUNT,
        nodeSelector=options.node_selector or None,
    )
    policy = PodFailurePolicy(
        rules=[
            PodFailurePolicyRule(
                action="FailJob",
                onExitCodes=PodFailurePolicyOnExitCodesRequirement(
                    containerName=CONTAINER, operator="In", values=[EXIT_USER_FAULT]
                ),
            ),
            PodFailurePolicyRule(
                action="Ignore",
                onPodConditions=[PodFailurePolicyOnPodConditionsPattern(type="DisruptionTarget", status="True")],
            ),
        ]
    )
    return Job(
        metadata=ObjectMeta(
            name=run, namespace=owner.namespace, labels=labels, ownerReferences=[owner_reference(owner)]
        ),
        spec=JobSpec(
            template=PodTemplateSpec(metadata=ObjectMeta(labels=labels), spec=pod),
            backoffLimit=options.retries,
            activeDeadlineSeconds=max(1, round(duration_s(options.timeout))),
            ttlSecondsAfterFinished=TTL_S_FINISHED,
            podFailurePolicy=policy,
        ),
    )


def in_parts(job: Job, parts: int) -> Job:
    """The Job as that many Pods at once, each with its index; tried again as often as one Pod is, for each."""
    assert job.spec is not None, "job_for writes a spec"
    if parts > 1:
        job.spec.completionMode = "Indexed"
        job.spec.completions = job.spec.parallelism = parts
        job.spec.backoffLimit = (job.spec.backoffLimit or 0) * parts
    return job


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a Job stands. `reason` is one CamelCase word and `message` a sentence, where it failed or cannot start."""

    state: Literal["Absent", "Waiting", "Running", "Succeeded", "Failed"]
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


ABSENT = Outcome("Absent")


def outcome(job: Job | None, pods: Iterable[Pod]) -> Outcome:
    """How the Job stands, told from its conditions and, where those say too little, from its last Pod."""
    if job is None or job.status is None:
        return ABSENT if job is None else Outcome("Waiting", "PodStarting", "the Pod is starting")
    status = job.status
    started = status.startTime
    last = max(pods, key=_created, default=None)
    for condition in status.conditions or ():
        if condition.status != "True":
            continue
        if condition.type in {"Complete", "SuccessCriteriaMet"}:
            return Outcome("Succeeded", "", "", started, status.completionTime)
        if condition.type in {"Failed", "FailureTarget"}:
            reason, message = _failure(condition.reason or "Failed", condition.message or "", last)
            return Outcome("Failed", reason, message, started, condition.lastTransitionTime)
    waiting = _waiting(last)
    if waiting is not None:
        return Outcome("Waiting", *waiting, started)
    return Outcome("Running", started_at=started)


def _created(pod: Pod) -> str:
    created = pod.metadata.creationTimestamp if pod.metadata is not None else None
    return f"{created or ''}{pod.metadata.name if pod.metadata is not None else ''}"


def _failure(reason: str, message: str, pod: Pod | None) -> tuple[str, str]:
    """The Pod's own words where it ended by itself: they say more than that the Job failed."""
    if reason == "DeadlineExceeded":
        return reason, "the Job took longer than its timeout and was stopped"
    for status in (pod.status.containerStatuses or ()) if pod is not None and pod.status is not None else ():
        ended = status.state.terminated if status.state is not None else None
        if ended is None or ended.exitCode == 0:
            continue
        said = (ended.message or "").strip()
        if ended.reason == "OOMKilled":
            return "OOMKilled", "the Pod took more memory than its limit and was killed"
        what = said or f"the Pod ended with exit code {ended.exitCode} ({ended.reason})"
        return ("Failed" if ended.exitCode == EXIT_USER_FAULT else reason), what
    return reason, message


def _waiting(pod: Pod | None) -> tuple[str, str] | None:
    """Why the Pod does not run yet, in its own words where it says."""
    starting = "PodStarting", "the Pod is starting"
    if pod is None or pod.status is None:
        return starting
    if pod.status.phase not in {None, "Pending"}:
        return None
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.reason or "Unschedulable", condition.message or "no node takes the Pod"
    for status in pod.status.containerStatuses or ():
        waiting = status.state.waiting if status.state is not None else None
        if waiting is not None and waiting.message:
            return waiting.reason or "Waiting", waiting.message
    return starting

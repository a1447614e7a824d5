"""A BatchPrediction that is deleted: its runs are ended, and what they have kept in the store is taken away.

The object stays, by its finalizer, until that is done: first no Pod of a run may be there any more, who could keep one
more group; then a Pod removes all there is (`mizzen.serving.batch.remove`). Nobody can be kept waiting for ever: where
that Pod fails for good, or cannot be made since its namespace goes too, the object goes, and an event says what stays.
"""

from dataclasses import dataclass

from lightkube.resources.batch_v1 import Job

from mizzen.controllers.jobs import Outcome, job_for
from mizzen.controllers.settings import PlatformSettings
from mizzen.kinds import BatchPrediction

REMOVE = "mizzen.serving.batch.remove"


@dataclass(frozen=True, slots=True)
class Departure:
    """What its deletion needs next: one of these, or to look again."""

    remove: bool = False
    """The Job that removes is to be made."""
    let_go: bool = False
    left: str = ""
    """Why something stays in the store, where it does."""


def depart(*, at_work: bool, removal: Outcome) -> Departure:
    """`at_work`: whether a Job or a Pod of one of its runs is there."""
    if at_work:
        return Departure()
    if removal.state == "Absent":
        return Departure(remove=True)
    if removal.state == "Failed":
        return Departure(let_go=True, left=removal.message)
    return Departure(let_go=removal.state == "Succeeded")


def removal_name(batch: BatchPrediction) -> str:
    """Of the Job."""
    return f"{batch.name[:40].rstrip('-')}-remove-{(batch.metadata.uid or '')[:8]}"


def removal_job(batch: BatchPrediction, settings: PlatformSettings) -> Job:
    """Its owner may go first, so it has none."""
    task = {"namespace": batch.namespace, "name": batch.name, "storeUrl": settings.store_url}
    job = job_for(batch, removal_name(batch), REMOVE, task, batch.spec, settings)
    assert job.metadata is not None, "job_for names the Job"
    job.metadata.ownerReferences = None
    return job

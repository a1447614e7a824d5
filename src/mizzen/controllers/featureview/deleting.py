"""A FeatureView that is to go: not while anybody reads it, and not before its records are out of the online store.

    asked to go ──► in use: it stays as it is and says by whom; goes by itself when they do
         └────────► not in use ──► Job that takes the records away ──► gone
                                        └── failed: said, and tried again later

The Job runs in the system namespace: where the view's own namespace is going, nothing new can be made in it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mizzen.controllers.conditions import Happened, Moment
from mizzen.controllers.jobs import Outcome
from mizzen.kinds import FeatureView
from mizzen.kinds.features import FeatureViewStatus
from mizzen.kinds.meta import condition_named

DELETED = "Deleted"
RETRY_S = 60.0


@dataclass(frozen=True, slots=True)
class Departure:
    """`start` names the Job to make; `stop` the one to end; with `let_go`, nothing is held back any more."""

    status: FeatureViewStatus
    start: str | None = None
    stop: str | None = None
    let_go: bool = False
    events: tuple[Happened, ...] = ()
    after_s: float | None = None


def removal_run(view: FeatureView, now: datetime) -> str:
    """The name of the Job: one for each try, of which there is one a minute at most."""
    slot = int(now.timestamp() // RETRY_S)
    tag = hashlib.sha256(f"{view.metadata.uid} remove {slot}".encode()).hexdigest()[:10]
    return f"remove-{view.name[:36].rstrip('-')}-{tag}"


@dataclass(frozen=True, slots=True)
class Jobs:
    """How the Jobs of a view stand that is to go."""

    work: Outcome
    """The one that brings it online."""
    removal: Outcome
    """The last one that takes its records away."""
    removal_run: str | None = None
    store: bool = True
    """Whether there is an online store to take records out of."""


def depart(view: FeatureView, users: Sequence[str], jobs: Jobs, now: datetime, now_text: str) -> Departure:
    """What becomes of a view that is to go."""
    job = jobs.removal
    status = view.status.model_copy(deep=True)
    moment = Moment(view.metadata.generation or 0, now_text)
    before = condition_named(status.conditions, DELETED)
    if users:
        message = f"is read by {', '.join(users)}: take it out there, and it goes"
        moment.state(status, DELETED, "False", "InUse", message)
        tell = before is None or before.message != message
        return Departure(status, events=(Happened("Warning", "InUse", message),) if tell else ())
    if jobs.work.state in {"Waiting", "Running"}:
        status.settled_run = status.current_run
        return Departure(status, stop=view.status.current_run)
    if not jobs.store:
        message = "there is no online store any more (data.onlineUrl of the settings): nothing is taken away"
        return Departure(status, let_go=True, events=(Happened("Warning", "NoOnlineStore", message),))
    if job.state == "Succeeded":
        return Departure(status, let_go=True, events=(Happened("Normal", "Removed", "its online records are gone"),))
    if job.state == "Failed":
        message = f"its online records could not be taken away: {job.message}; tried again every minute"
        moment.state(status, DELETED, "False", job.reason or "Failed", message)
        tell = before is None or before.message != message
        run = removal_run(view, now)
        return Departure(
            status,
            start=run if run != jobs.removal_run else None,
            events=(Happened("Warning", job.reason or "Failed", message),) if tell else (),
            after_s=RETRY_S,
        )
    moment.state(status, DELETED, "False", "Removing", "its online records are being taken away")
    return Departure(status, start=removal_run(view, now) if job.state == "Absent" else None)

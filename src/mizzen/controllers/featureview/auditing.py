"""Audits of online reads: when the next is due, and what becomes of what the last one found.

An audit is a Job, named after the time of the audit before it, so that a controller that looks again finds it. It
compares the reads since then. The view's condition `Consistent` says how it came out; an event tells when it turns.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mizzen.controllers.conditions import Happened, Moment
from mizzen.controllers.featureview.wanted import as_defined, digest_of, used_views
from mizzen.controllers.jobs import job_for
from mizzen.controllers.platform import Platform, ResourceController
from mizzen.kinds import Dataset, FeatureView
from mizzen.kinds.features import FeatureViewStatus
from mizzen.kinds.meta import condition_named
from mizzen.kinds.scalars import duration_s
from mizzen.kinds.skew import SkewReport
from mizzen.kube.resources import Key
from mizzen.kube.runtime import Result, Watch

MODULE = "mizzen.data.features.jobs.audit"
CONSISTENT = "Consistent"
SETTINGS_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done now."""

    run: str | None = None
    """The audit's Job; `None`: none is due."""
    since: str = ""
    after_s: float | None = None
    """When to look again."""


def due(view: FeatureView, now: datetime) -> Due:
    """Whether an audit is due."""
    audit, status = view.spec.audit, view.status
    begun = status.skew.until if status.skew is not None else status.materialised_at
    if audit is None or not view.spec.online or begun is None:
        return Due()
    every_s = max(1.0, duration_s(audit.every))
    waited_s = (now - datetime.fromisoformat(begun)).total_seconds()
    if waited_s < every_s:
        return Due(after_s=every_s - waited_s)
    # Where an audit failed and told nothing, the next one has another name.
    number = int(waited_s // every_s)
    tag = hashlib.sha256(f"{view.metadata.uid}{begun}{number}".encode()).hexdigest()[:10]
    return Due(f"{view.name[:40].rstrip('-')}-audit-{tag}", begun, every_s * (number + 1) - waited_s)


def told(view: FeatureView, now_text: str) -> tuple[FeatureViewStatus, tuple[Happened, ...]]:
    """The status with what the last audit found, and an event where that is news."""
    status = view.status.model_copy(deep=True)
    report, audit = status.skew, view.spec.audit
    if report is None or audit is None:
        return status, ()
    before = condition_named(status.conditions, CONSISTENT)
    share = report.differing / report.values if report.values else 0.0
    over = share > audit.limit
    message = words(report, share, audit.limit)
    moment = Moment(view.metadata.generation or 0, now_text)
    if before is not None and before.message == message:
        return status, ()
    if not report.reads:
        moment.state(status, CONSISTENT, "Unknown", "NoReads", message)
        return status, ()
    moment.state(status, CONSISTENT, "False" if over else "True", "SkewBeyondLimit" if over else "WithinLimit", message)
    turned = before is None or before.status != ("False" if over else "True")
    if not turned or (before is None and not over):
        return status, ()
    return status, (Happened("Warning" if over else "Normal", "SkewBeyondLimit" if over else "WithinLimit", message),)


def words(report: SkewReport, share: float, limit: float) -> str:
    """What was found, in one sentence."""
    if not report.reads:
        return f"no online reads were recorded from {report.since} to {report.until}"
    text = (
        f"{report.differing} of {report.values} values of {report.reads} online reads differ from the offline "
        f"computation ({share:.2%}, of at most {limit:.2%}); {report.missing} were missing, {report.extra} extra"
    )
    worst = [f"{one.feature}: {one.differing}" for one in report.features[:3]]
    return f"{text}; most in {', '.join(worst)}" if worst else text


class AuditController(ResourceController):
    """Audits views that ask for it."""

    name = "audit"

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        self._views = platform.informers.of(FeatureView)
        self._datasets = platform.informers.of(Dataset)

    def watches(self) -> Sequence[Watch[Any]]:
        return (Watch(self._views),)

    async def reconcile(self, key: Key) -> Result | None:
        view = self._views.at(key)
        if view is None or view.spec.audit is None or view.metadata.deletion_timestamp is not None:
            return None
        settings = self.settings_or_none(view)
        if settings is None:
            return Result(after_s=SETTINGS_RETRY_S)
        status, events = told(view, self.platform.now_text())
        await self.platform.write_status(view, view.status, status)
        self.platform.tell(view, events)
        next_ = due(view, self.platform.now())
        if next_.run is not None:
            task = self._task(view, next_, settings.store_url)
            if task is not None:
                await self.platform.create_job(job_for(view, next_.run, MODULE, task, view.spec, settings))
        return Result(after_s=next_.after_s) if next_.after_s is not None else None

    def _task(self, view: FeatureView, next_: Due, store_url: str) -> dict[str, Any] | None:
        """What the Pod needs; `None` while what is online is of another definition, or a source has no version."""
        views = {other.name: other for other in self._views.list(view.namespace)}
        at = []
        for each in (view, *used_views(view, views)):
            dataset = self._datasets.get(view.namespace, each.spec.source.dataset or "")
            if dataset is None or dataset.status.version is None:
                return None
            at.append({"view": as_defined(each), "sourceVersion": dataset.status.version})
        if digest_of(view, views) != view.status.digest:
            return None
        return {
            "namespace": view.namespace,
            "name": view.name,
            "run": next_.run,
            "storeUrl": store_url,
            "reads": f"predictions/{view.namespace}/{view.name}.reads",
            "digest": view.status.digest,
            "since": next_.since,
            "target": at[0],
            "uses": at[1:],
        }

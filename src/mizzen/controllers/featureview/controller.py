"""Reconciles FeatureViews: load, decide (`wanted.py`, `decide.py`; of those that go, `deleting.py`), apply."""

from collections.abc import Iterable, Sequence
from typing import Any

from lightkube.resources.batch_v1 import Job

from mizzen.controllers.featureview.decide import Decision, decide, run_at_work
from mizzen.controllers.featureview.deleting import Jobs, depart
from mizzen.controllers.featureview.users import Users
from mizzen.controllers.featureview.wanted import Surroundings, Wanted, as_defined, used_views, wanted_run
from mizzen.controllers.jobs import ABSENT, Outcome, in_parts, job_for, outcome
from mizzen.controllers.platform import Platform, ResourceController
from mizzen.controllers.settings import PlatformSettings
from mizzen.kinds import Dataset, FeatureView, InferenceEndpoint, TrainingJob
from mizzen.kinds.names import FINALIZER_ONLINE, LABEL_RUN, SYSTEM_NAMESPACE
from mizzen.kube.conditions import add_finalizer, remove_finalizer
from mizzen.kube.errors import NotFound
from mizzen.kube.resources import Key, meta_of
from mizzen.kube.runtime import Result, Watch, controller_of, labelled

MATERIALISE, REMOVE = "mizzen.data.features.jobs.materialise", "mizzen.data.features.jobs.remove"
SETTINGS_RETRY_S = 5.0
LABEL_REMOVES = "mizzen.dev/removes-uid"
"""On a Job of the system namespace: the uid of the view whose records it takes away."""
ANNOTATION_REMOVES = "mizzen.dev/removes"
"""And `namespace/name` of that view."""


class FeatureViewController(ResourceController):
    """Brings views online, one run at a time, and keeps them at their sources' newest versions."""

    name = "featureview"

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        self._users = Users(platform.informers)
        self._views = self._users.views
        self._datasets = platform.informers.of(Dataset)
        self._views.add_index("run", lambda view: [f"{view.namespace}/{view.status.current_run}"])
        self._views.add_index("source", lambda view: [f"{view.namespace}/{view.spec.source.dataset}"])
        platform.jobs.add_index("removes", lambda job: [str(label) for label in _labels(job, LABEL_REMOVES)])

    def watches(self) -> Sequence[Watch[Any]]:
        return (
            Watch(self._views),
            Watch(self._views, self._around),
            Watch(self._datasets, self._readers_of),
            Watch(self._users.trainings, self._read_by_training),
            Watch(self._users.endpoints, self._read_by_endpoint),
            Watch(self.platform.jobs, controller_of(FeatureView)),
            Watch(self.platform.jobs, _removed_by),
            Watch(self.platform.pods, self._of_run),
        )

    def _around(self, view: FeatureView) -> Iterable[Key]:
        """The views that use this one, and those it uses: their versions and who reads them follow from it."""
        users = self._views.by_index("featureview", f"{view.namespace}/{view.name}")
        return [Key(view.namespace, name) for name in [*(user.name for user in users), *view.spec.uses]]

    def _readers_of(self, dataset: Dataset) -> Iterable[Key]:
        readers = self._views.by_index("source", f"{dataset.namespace}/{dataset.name}")
        users = [
            user
            for reader in readers
            for user in self._views.by_index("featureview", f"{reader.namespace}/{reader.name}")
        ]
        return [Key(view.namespace, view.name) for view in [*readers, *users]]

    def _read_by_training(self, training: TrainingJob) -> Iterable[Key]:
        return [Key(training.namespace, name) for name in self._users.named_by(training)]

    def _read_by_endpoint(self, endpoint: InferenceEndpoint) -> Iterable[Key]:
        return [Key(endpoint.namespace, name) for name in self._users.named_by(endpoint)]

    def _of_run(self, pod: object) -> Iterable[Key]:
        """The view whose Job the Pod belongs to."""
        return [
            Key(view.namespace, view.name)
            for run in labelled(LABEL_RUN)(pod)
            for view in self._views.by_index("run", str(run))
        ]

    async def reconcile(self, key: Key) -> Result | None:
        view = self._views.at(key)
        if view is None:
            return None
        settings = self.settings_or_none(view)
        if settings is None:
            return Result(after_s=SETTINGS_RETRY_S)
        if view.metadata.deletion_timestamp is not None:
            return await self._depart(view, settings)
        wanted = wanted_run(view, self._surroundings(view, settings))
        run = run_at_work(view) or wanted.run
        decision = decide(view, wanted, self._outcome(view, run), self.platform.now(), self.platform.now_text())
        decision.status.used_by = self._users.of(view)
        return await self._apply(view, wanted, decision, settings)

    async def _apply(
        self, view: FeatureView, wanted: Wanted, decision: Decision, settings: PlatformSettings
    ) -> Result | None:
        if decision.stop is not None:
            await self._stop(view.namespace, decision.stop)
        if decision.start is not None:
            if view.spec.online and FINALIZER_ONLINE not in view.metadata.finalizers:
                # Before the first record, not after it: what is written is taken away, whatever happens in between.
                self._views.wrote(await add_finalizer(self.platform.client, view, FINALIZER_ONLINE))
                return Result(after_s=0.0)
            task = task_of(view, wanted, settings)
            job = job_for(view, wanted.run, MATERIALISE, task, view.spec, settings)
            await self.platform.create_job(in_parts(job, task["parts"]))
        await self.platform.write_status(view, view.status, decision.status)
        self.platform.tell(view, decision.events)
        pauses = [pause_s for pause_s in (decision.after_s, wanted.look_again_s) if pause_s is not None]
        return Result(after_s=min(pauses)) if pauses else None

    async def _depart(self, view: FeatureView, settings: PlatformSettings) -> Result | None:
        if FINALIZER_ONLINE not in view.metadata.finalizers:
            return None
        working = run_at_work(view)
        removals = sorted(self.platform.jobs.by_index("removes", view.metadata.uid or ""), key=_created)
        removal = meta_of(removals[-1]).name if removals else None
        removing = self.platform.pods_of(SYSTEM_NAMESPACE, removal or "")
        jobs = Jobs(
            work=self._outcome(view, working) if working is not None else ABSENT,
            removal=outcome(removals[-1], removing) if removals else ABSENT,
            removal_run=removal,
            store=bool(settings.online_url),
        )
        departure = depart(view, self._users.of(view), jobs, self.platform.now(), self.platform.now_text())
        departure.status.used_by = self._users.of(view)
        if departure.stop is not None:
            await self._stop(view.namespace, departure.stop)
        if departure.start is not None:
            await self.platform.create_job(removal_job(view, departure.start, settings))
        self.platform.tell(view, departure.events)
        if departure.let_go:
            await remove_finalizer(self.platform.client, view, FINALIZER_ONLINE)
            return None
        await self.platform.write_status(view, view.status, departure.status)
        return Result(after_s=departure.after_s) if departure.after_s is not None else None

    def _surroundings(self, view: FeatureView, settings: PlatformSettings) -> Surroundings:
        views = {
            other.name: other
            for other in self._views.list(view.namespace)
            if other.metadata.deletion_timestamp is None or other.name == view.name
        }
        wanted = [view, *used_views(view, views)]
        names = {each.spec.source.dataset for each in wanted if each.spec.source.dataset is not None}
        found = {name: self._datasets.get(view.namespace, name) for name in names}
        datasets = {name: dataset for name, dataset in found.items() if dataset is not None}
        return Surroundings(views, datasets, settings.online_url, self.platform.now().timestamp())

    def _outcome(self, view: FeatureView, run: str) -> Outcome:
        if not run:
            return ABSENT
        return outcome(self.platform.jobs.get(view.namespace, run), self.platform.pods_of(view.namespace, run))

    async def _stop(self, namespace: str, run: str) -> None:
        try:
            await self.platform.client.delete(Job, run, namespace, propagation="Background")
        except NotFound:
            return


def _labels(job: object, name: str) -> Iterable[str]:
    value = meta_of(job).labels.get(name)
    return [value] if value else []


def _created(job: Job) -> str:
    return f"{job.metadata.creationTimestamp if job.metadata is not None else ''}{meta_of(job).name}"


def _removed_by(job: Job) -> Iterable[Key]:
    """The view whose records the Job takes away."""
    named = meta_of(job).annotations.get(ANNOTATION_REMOVES, "")
    namespace, _, name = named.partition("/")
    return [Key(namespace, name)] if name else []


def task_of(view: FeatureView, wanted: Wanted, settings: PlatformSettings) -> dict[str, Any]:
    """What the Pod needs to know that brings the view online; see docs/architecture.md."""
    task: dict[str, Any] = {
        "namespace": view.namespace,
        "name": view.name,
        "run": wanted.run,
        "storeUrl": settings.store_url,
        "online": view.spec.online,
        "target": {"view": as_defined(view), "sourceVersion": wanted.target},
        "uses": [{"view": as_defined(used), "sourceVersion": version} for used, version in wanted.uses],
        "parts": view.spec.parts if view.spec.online and view.status.digest != wanted.digest else 1,
    }
    if settings.online_url:
        task["onlineUrl"] = settings.online_url
    return task


def removal_job(view: FeatureView, run: str, settings: PlatformSettings) -> Job:
    """The Job that takes a view's records away. Its owner goes first, so it has none."""
    task = {"namespace": view.namespace, "name": view.name, "run": run, "onlineUrl": settings.online_url}
    job = job_for(view, run, REMOVE, task, view.spec, settings)
    assert job.metadata is not None, "job_for names the Job"
    job.metadata.namespace, job.metadata.ownerReferences = SYSTEM_NAMESPACE, None
    job.metadata.labels = {**(job.metadata.labels or {}), LABEL_REMOVES: view.metadata.uid or ""}
    job.metadata.annotations = {ANNOTATION_REMOVES: f"{view.namespace}/{view.name}"}
    return job

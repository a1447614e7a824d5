"""Reconciles Datasets: load, decide (`decide.py`), apply."""

from collections.abc import Sequence
from typing import Any

from mizzen.controllers.dataset.decide import decide
from mizzen.controllers.jobs import job_for, outcome, run_name
from mizzen.controllers.platform import Platform, ResourceController
from mizzen.controllers.settings import PlatformSettings
from mizzen.kinds import Dataset
from mizzen.kinds.names import LABEL_RUN
from mizzen.kube.resources import Key
from mizzen.kube.runtime import Result, Watch, controller_of, labelled

MODULE = "mizzen.data.ingest"
SETTINGS_RETRY_S = 5.0


class DatasetController(ResourceController):
    """Makes one load for each generation of a Dataset, and puts what it loaded into the status."""

    name = "dataset"

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        self._datasets = platform.informers.of(Dataset)
        self._datasets.add_index("run", lambda dataset: [f"{dataset.namespace}/{dataset.status.current_run}"])

    def watches(self) -> Sequence[Watch[Any]]:
        return (
            Watch(self._datasets),
            Watch(self.platform.jobs, controller_of(Dataset)),
            Watch(self.platform.pods, self._of_run),
        )

    def _of_run(self, pod: object) -> Sequence[Key]:
        """The Dataset whose Job the Pod belongs to."""
        return [
            Key(dataset.namespace, dataset.name)
            for run in labelled(LABEL_RUN)(pod)
            for dataset in self._datasets.by_index("run", str(run))
        ]

    async def reconcile(self, key: Key) -> Result | None:
        dataset = self._datasets.at(key)
        if dataset is None or dataset.metadata.deletion_timestamp is not None:
            return None
        settings = self.settings_or_none(dataset)
        if settings is None:
            return Result(after_s=SETTINGS_RETRY_S)
        run = run_name(dataset)
        job = self.platform.jobs.get(dataset.namespace, run)
        pods = self.platform.pods_of(dataset.namespace, run)
        decision = decide(dataset, outcome(job, pods), self.platform.now_text())
        if decision.start is not None:
            task = task_of(dataset, decision.start, settings)
            await self.platform.create_job(job_for(dataset, decision.start, MODULE, task, dataset.spec, settings))
        await self.platform.write_status(dataset, dataset.status, decision.status)
        self.platform.tell(dataset, decision.events)
        return None


def task_of(dataset: Dataset, run: str, settings: PlatformSettings) -> dict[str, Any]:
    """What the loading Pod needs to know; see docs/architecture.md."""
    spec = dataset.spec.to_wire()
    return {
        "namespace": dataset.namespace,
        "name": dataset.name,
        "run": run,
        "storeUrl": settings.store_url,
        **{key: spec[key] for key in ("code", "source", "eventTime", "expectations") if key in spec},
    }

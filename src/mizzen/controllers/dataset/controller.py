"""Reconciles Datasets: load, decide (`loads.py`, `decide.py`), apply."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightkube.resources.core_v1 import Pod

from mizzen.controllers.conditions import Moment
from mizzen.controllers.dataset import push_server
from mizzen.controllers.dataset.decide import READY, Decision, decide
from mizzen.controllers.dataset.loads import Wanted, circle_of, input_versions, missing_input, wanted_load
from mizzen.controllers.jobs import Outcome, job_for, outcome
from mizzen.controllers.platform import Platform, ResourceController
from mizzen.controllers.settings import PlatformSettings
from mizzen.kinds import Dataset
from mizzen.kinds.data import InputVersion
from mizzen.kinds.names import LABEL_RUN, SYSTEM_NAMESPACE
from mizzen.kube.resources import Key
from mizzen.kube.runtime import Result, Watch, controller_of, labelled

MODULE = "mizzen.data.ingest"
SETTINGS_RETRY_S = 5.0
_SPEC = (
    "code", "source", "eventTime", "timeZone", "load", "partitionBy", "retention", "columns", "expectations",
)  # fmt: skip
"""The fields of the spec that a loading Pod is given."""


class DatasetController(ResourceController):
    """Makes the loads that a Dataset wants, one at a time, and puts what they loaded into the status."""

    name = "dataset"

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        self._datasets = platform.informers.of(Dataset)
        self._datasets.add_index("run", lambda dataset: [f"{dataset.namespace}/{dataset.status.current_run}"])
        self._datasets.add_index(
            "input", lambda dataset: [f"{dataset.namespace}/{name}" for name in dataset.spec.inputs]
        )

    def watches(self) -> Sequence[Watch[Any]]:
        return (
            Watch(self._datasets),
            Watch(self._datasets, self._readers_of),
            Watch(self.platform.jobs, controller_of(Dataset)),
            Watch(self.platform.pods, self._of_run),
            Watch(self.platform.pods, self._pushed_to),
        )

    def _readers_of(self, dataset: Dataset) -> Sequence[Key]:
        """The Datasets whose query reads this one."""
        readers = self._datasets.by_index("input", f"{dataset.namespace}/{dataset.name}")
        return [Key(reader.namespace, reader.name) for reader in readers]

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
        inputs = self._inputs_of(dataset)
        try:
            wanted = wanted_load(dataset, inputs, self.platform.now())
        except ValueError as error:
            await self._say_invalid(dataset, str(error))
            return None
        wanted = self._one_at_a_time(dataset, wanted)
        job, problem = self._outcome(dataset, wanted.run), self._problem(dataset, inputs)
        address = await self._push_address(dataset, settings)
        decision = decide(dataset, wanted, job, problem, self.platform.now_text(), address)
        if decision.start is not None:
            task = task_of(dataset, wanted, input_versions(dataset, inputs), settings)
            await self.platform.create_job(job_for(dataset, wanted.run, MODULE, task, dataset.spec, settings))
        await self._write(dataset, decision)
        return Result(after_s=wanted.next_in_s) if wanted.next_in_s is not None else None

    async def _push_address(self, dataset: Dataset, settings: PlatformSettings) -> str | None:
        """Where rows of this dataset are sent to; the push server is made where there is none yet."""
        if dataset.spec.source.push is None:
            return None
        found = push_server.address(self.platform.pods.list(SYSTEM_NAMESPACE))
        if found is None:
            for obj in (push_server.deployment(settings), push_server.service()):
                await self.platform.create_missing(obj)
        return found

    def _pushed_to(self, pod: Pod) -> Sequence[Key]:
        """The Datasets that take pushed rows, where the Pod is of the push server."""
        if not push_server.is_of_push_server(pod):
            return []
        return [Key(each.namespace, each.name) for each in self._datasets.list() if each.spec.source.push is not None]

    def _inputs_of(self, dataset: Dataset) -> Mapping[str, Dataset]:
        found = {name: self._datasets.get(dataset.namespace, name) for name in dataset.spec.inputs}
        return {name: other for name, other in found.items() if other is not None}

    def _problem(self, dataset: Dataset, inputs: Mapping[str, Dataset]) -> tuple[str, str] | None:
        """What a load cannot begin without."""
        if not dataset.spec.inputs:
            return None
        known = {other.name: other for other in self._datasets.list(dataset.namespace)}
        if circle := circle_of(dataset, known):
            return "CircularInputs", f"spec.source.sql.datasets: expected no circle, found {' -> '.join(circle)}"
        return missing_input(dataset, inputs)

    def _one_at_a_time(self, dataset: Dataset, wanted: Wanted) -> Wanted:
        """The load that is at work, where one of this generation is: the next one begins when it has ended."""
        current, request = dataset.status.current_run, dataset.status.current_request
        settled = dataset.status.settled_run == current or (request and dataset.status.settled_request == request)
        if current is None or current == wanted.run or settled:
            return wanted
        job = self.platform.jobs.get(dataset.namespace, current)
        same_generation = current.startswith(wanted.run.rpartition("-")[0] + "-")
        if job is None or not same_generation:
            return wanted
        return Wanted(current, request, next_in_s=wanted.next_in_s)

    def _outcome(self, dataset: Dataset, run: str) -> Outcome:
        return outcome(self.platform.jobs.get(dataset.namespace, run), self.platform.pods_of(dataset.namespace, run))

    async def _write(self, dataset: Dataset, decision: Decision) -> None:
        await self.platform.write_status(dataset, dataset.status, decision.status)
        self.platform.tell(dataset, decision.events)

    async def _say_invalid(self, dataset: Dataset, why: str) -> None:
        """Says on the object that a request for a load makes no sense."""
        status = dataset.status.model_copy(deep=True)
        moment = Moment(dataset.metadata.generation or 0, self.platform.now_text())
        moment.state(status, "Refreshed", "False", "InvalidRequest", why)
        if status.version is None:
            moment.state(status, READY, "False", "InvalidRequest", why)
        await self.platform.write_status(dataset, dataset.status, status)


def task_of(
    dataset: Dataset, wanted: Wanted, inputs: Sequence[InputVersion], settings: PlatformSettings
) -> dict[str, Any]:
    """What the loading Pod needs to know; see docs/architecture.md."""
    spec = dataset.spec.to_wire()
    task = {
        "namespace": dataset.namespace,
        "name": dataset.name,
        "run": wanted.run,
        "storeUrl": settings.store_url,
        **{key: spec[key] for key in _SPEC if key in spec},
    }
    if inputs:
        task["inputs"] = [each.to_wire() for each in inputs]
    if wanted.full:
        task["full"] = True
    if wanted.restore is not None:
        task["restore"] = wanted.restore
    if settings.lineage_url:
        task["lineageUrl"] = settings.lineage_url
    return task

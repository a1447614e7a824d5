"""`python -m mizzen.training.main`: one training run, told to the TrainingJob's status."""

import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from mizzen.data.lake.objects import Store
from mizzen.data.pod import read_task, run_to_exit_code
from mizzen.data.pod_api import PodApi
from mizzen.kinds.build import Lineage, ModelVersion
from mizzen.kinds.names import LABEL_MODEL, LABEL_RUN
from mizzen.kube.client import Client
from mizzen.registry.prepared import Prepared
from mizzen.registry.registering import register
from mizzen.registry.version import ClusterVersions
from mizzen.training.reporting import StatusReporter
from mizzen.training.running import run
from mizzen.training.task import TrainingTask

_PATIENCE_S = 300.0


class ClusterRegistry:
    """The `Registry` of a Kubernetes API server."""

    def __init__(self, api: PodApi) -> None:
        self._api = api

    def made_by(self, task: TrainingTask) -> ModelVersion | None:
        labels = {LABEL_MODEL: task.model, LABEL_RUN: task.run}

        async def find(client: Client) -> list[ModelVersion]:
            return await ClusterVersions(client, task.namespace).with_labels(labels)

        return next(iter(self._api.call(find, patience_s=_PATIENCE_S)), None)

    def register(
        self, task: TrainingTask, store: Store, prepared: Prepared, metrics: Mapping[str, float], lineage: Lineage
    ) -> ModelVersion:
        async def create(client: Client) -> ModelVersion:
            versions = ClusterVersions(client, task.namespace)
            return await register(versions, store, task.model, prepared, run=task.run, metrics=metrics, lineage=lineage)

        return self._api.call(create, patience_s=_PATIENCE_S)


def main() -> int:
    """The process's exit code."""

    def body() -> None:
        task = read_task(TrainingTask)
        with PodApi() as api, tempfile.TemporaryDirectory(prefix="mizzen-training-") as work:
            run(task, ClusterRegistry(api), StatusReporter(api, task), Path(work), lambda: datetime.now(UTC))

    return run_to_exit_code(body)


if __name__ == "__main__":
    sys.exit(main())

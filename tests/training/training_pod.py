"""A training Pod for the tests: it reports to a file, makes versions in a file, and dies where it is told.

MIZZEN_TASK=… PLACE=FOLDER [DIE_AT=before-version|after-version] python training_pod.py
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from mizzen.data.lake.objects import Store
from mizzen.data.pod import read_task, run_to_exit_code
from mizzen.kinds.build import Lineage, ModelVersion, TrainingReport
from mizzen.registry.prepared import Prepared
from mizzen.registry.registering import register
from mizzen.training.running import run
from mizzen.training.task import TrainingTask

PLACE = Path(os.environ["PLACE"])


def die_at(moment: str) -> None:
    if os.environ.get("DIE_AT") == moment:
        os.kill(os.getpid(), signal.SIGKILL)


class FileVersions:
    """Model versions as files, made as an API server makes objects: a name is taken once."""

    async def with_labels(self, labels: Mapping[str, str]) -> list[ModelVersion]:
        found = [ModelVersion.model_validate_json(path.read_text()) for path in sorted(PLACE.glob("*.version.json"))]
        return [version for version in found if labels.items() <= version.metadata.labels.items()]

    async def highest_known(self, model: str) -> int:
        return 0

    async def create(self, version: ModelVersion) -> ModelVersion | None:
        die_at("before-version")
        try:
            with (PLACE / f"{version.name}.version.json").open("x") as file:
                file.write(version.model_dump_json(by_alias=True))
        except FileExistsError:
            return None
        die_at("after-version")
        return version


class FileRegistry:
    def made_by(self, task: TrainingTask) -> ModelVersion | None:
        labels = {"mizzen.dev/model": task.model, "mizzen.dev/run": task.run}
        return next(iter(asyncio.run(FileVersions().with_labels(labels))), None)

    def register(
        self, task: TrainingTask, store: Store, prepared: Prepared, metrics: Mapping[str, float], lineage: Lineage
    ) -> ModelVersion:
        made = register(FileVersions(), store, task.model, prepared, run=task.run, metrics=metrics, lineage=lineage)
        return asyncio.run(made)


class FileReporter:
    def update(self, report: TrainingReport) -> None:
        self.finish(report)

    def finish(self, report: TrainingReport) -> None:
        with (PLACE / "reports").open("a") as file:
            file.write(json.dumps(report.to_wire()) + "\n")


def body() -> None:
    work = PLACE / f"work-{os.getpid()}"
    work.mkdir()
    run(read_task(TrainingTask), FileRegistry(), FileReporter(), work, lambda: datetime.now(UTC))


if __name__ == "__main__":
    sys.exit(run_to_exit_code(body))

"""A project folder, the store it is bundled into, and loads of it: what the tests of loads share."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mizzen.data.ingest.loading import load
from mizzen.data.ingest.task import IngestTask
from mizzen.data.lake.code import bundle, put_bundle
from mizzen.data.lake.objects import Store
from mizzen.data.lake.tables import Table
from mizzen.kinds.data import LoadReport

NOW = datetime(2020, 6, 1, tzinfo=UTC)


class Project:
    """A project folder, the store it is bundled into, and loads of it."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        (folder / "project").mkdir(exist_ok=True)

    def write(self, **files: str) -> "Project":
        for name, text in files.items():
            (self.folder / "project" / f"{name}.py").write_text(text)
        return self

    def put(self, name: str, content: str | bytes) -> Path:
        """A file of the project."""
        path = self.folder / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def task(self, run: str = "run-1", **task: Any) -> IngestTask:
        known = {"namespace": "ns", "name": "things", "run": run, "storeUrl": self.store.url}
        if "code" not in task and any((self.folder / "project").iterdir()):
            known["code"] = put_bundle(self.store, bundle(self.folder / "project"))
        return IngestTask.model_validate(known | task)

    def load(self, run: str = "run-1", **task: Any) -> LoadReport:
        sys.modules.pop("source", None)  # a Pod is a process of its own
        work = self.folder / f"work-{run}"
        work.mkdir(exist_ok=True)
        return load(self.task(run, **task), self.store, work, lambda: NOW)

    @property
    def table(self) -> Table:
        return Table(self.store, "ns", "things")

    def rows(self, version: int | None = None) -> list[dict[str, Any]]:
        """Of a version, in order."""
        found: list[dict[str, Any]] = self.table.at(version).arrow().to_pylist()
        return found

"""A batch prediction's Pod for `benchmarks.batch`, as it is but for its status, which goes nowhere.

`python -m benchmarks.batch_pod FILE`, for the task in that file.
"""

import asyncio
import importlib
import sys
from datetime import UTC, datetime
from pathlib import Path

from mizzen.serving.batch.__main__ import step_back


class Deaf:
    """A reporter that tells nobody."""

    def progress(self, shard: object) -> None: ...
    def loaded(self, report: object) -> None: ...
    def finish(self, result: object) -> None: ...


def main(path: Path) -> None:
    """As in `mizzen.serving.batch`: what is large is imported in the background."""
    step_back()
    pod = importlib.import_module("mizzen.serving.batch.pod")
    task = pod.BatchTask.model_validate_json(path.read_text())
    asyncio.run(pod.BatchPod(task, 0, Deaf(), pod.ways_of(task), lambda: datetime.now(UTC)).run())


if __name__ == "__main__":
    main(Path(sys.argv[1]))

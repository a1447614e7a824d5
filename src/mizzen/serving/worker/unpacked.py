"""`python -m mizzen.serving.worker.unpacked FOLDER`: serves the model unpacked there, in the environment it runs in.

What the worker before it (`__main__`) knew is in the environment still: `MIZZEN_TASK` and the rest. Nothing here may
need more than an environment of the model's own holds: msgspec, numpy, and uvloop where it is.
"""

import asyncio
import faulthandler
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from mizzen.registry.package import EXAMPLE
from mizzen.serving.worker.ending import exit_code_of
from mizzen.serving.worker.model import Model
from mizzen.serving.worker.process import Worker, processors
from mizzen.serving.worker.runtimes.loading import runtime_of
from mizzen.serving.worker.task import Surroundings, Task

try:
    import uvloop
except ModuleNotFoundError:
    _NEW_LOOP: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    _NEW_LOOP = uvloop.new_event_loop


def main(folder: Path) -> int:
    """Returns the exit status, as `mizzen.serving.worker` does."""
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
    surroundings = Surroundings.from_environment(os.environ)
    try:
        return exit_code_of(lambda: _serve(folder, surroundings), surroundings, (OSError,))
    finally:
        shutil.rmtree(folder.parent, ignore_errors=True)


def _serve(folder: Path, surroundings: Surroundings) -> None:
    task = Task.from_environment(os.environ)

    def load() -> Model:
        return Model(runtime_of(folder, task.threads or processors(), task.trusted))

    def example() -> bytes | None:
        path = folder / EXAMPLE
        return path.read_bytes() if path.exists() else None

    with asyncio.Runner(loop_factory=_NEW_LOOP) as runner:
        runner.run(Worker(task, surroundings, load, example).run())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

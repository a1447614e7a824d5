"""`python -m mizzen.serving.worker`: from the task to a warm model that answers.

An ONNX model is fetched and served by this process as it stands. For any other it becomes `unpacking`, and then
`unpacked` in the model's own environment (by `exec`: it stays one process, under the same number, for the kubelet to
stop). Each imports only what it needs: a worker's start is measured.
"""

import faulthandler
import logging
import os
import sys

import uvloop

from mizzen.data.lake.errors import StoreUnavailable
from mizzen.serving.worker.artifacts import Artifacts
from mizzen.serving.worker.ending import exit_code_of
from mizzen.serving.worker.errors import TaskError
from mizzen.serving.worker.model import Model
from mizzen.serving.worker.process import Worker, processors
from mizzen.serving.worker.runtimes.explaining import explainer_of
from mizzen.serving.worker.runtimes.onnx import OnnxRuntime
from mizzen.serving.worker.task import ONNX, Surroundings, Task


def main() -> int:
    """Returns the exit status: 0 after SIGTERM, 2 where starting again will not help, 1 where it may."""
    faulthandler.enable()  # of a crash in native code, at least the Python side of it is in the log
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
    surroundings = Surroundings.from_environment(os.environ)
    return exit_code_of(lambda: _serve(surroundings), surroundings, (StoreUnavailable, OSError))


def _serve(surroundings: Surroundings) -> None:
    task = Task.from_environment(os.environ)
    if task.format != ONNX and task.explain is not None:
        raise TaskError(f"explanations are of models that are ONNX, or were converted to it; this one is {task.format}")
    if task.format != ONNX:
        os.execv(sys.executable, [sys.executable, "-m", "mizzen.serving.worker.unpacking"])  # noqa: S606 - no shell
    artifacts = Artifacts(task, surroundings.cache)

    def load() -> Model:
        with artifacts.model() as model:
            runtime = OnnxRuntime(model, task.threads or processors())
        return Model(runtime if task.explain is None else explainer_of(runtime, artifacts, task.explain))

    uvloop.run(Worker(task, surroundings, load, artifacts.example, lambda: artifacts.fetch_s).run())


if __name__ == "__main__":
    sys.exit(main())

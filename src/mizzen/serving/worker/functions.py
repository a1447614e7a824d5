"""`python -m mizzen.serving.worker.functions`: runs a view's features of requests, which are the user's functions.

They run in Pods of their own and not in the gateway: it holds everybody's requests and keys, and one slow or broken
function would be felt by all endpoints. A worker of functions is one process for one version of one view, warm and
probed like a worker of a model, and all endpoints that use the view share it.
"""

import faulthandler
import logging
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import uvloop

from mizzen.data.entrypoint import described, load_function
from mizzen.data.features.definition import Definition, definition_of
from mizzen.data.features.errors import DefinitionError, RequestUnfit
from mizzen.data.features.request import RequestFeatures
from mizzen.data.lake.code import unpack
from mizzen.data.lake.errors import CodeError, DigestMismatch, ObjectMissing, StoreUnavailable
from mizzen.data.lake.objects import Store
from mizzen.kinds.features import FeatureView
from mizzen.serving.arrow import read, written
from mizzen.serving.functions import SIGNATURE, WANTED
from mizzen.serving.worker.arrays import Array
from mizzen.serving.worker.ending import exit_code_of
from mizzen.serving.worker.errors import BatchError, InvalidBatchError, TaskError
from mizzen.serving.worker.model import Model
from mizzen.serving.worker.process import Worker
from mizzen.serving.worker.runtimes.runtime import Runtime, first_line
from mizzen.serving.worker.task import Surroundings, Task


class FunctionsTask(Task, frozen=True):
    """A view's version; `digest` is its definition's, `model` its name."""

    view: dict[str, Any] = msgspec.field(default_factory=dict)
    """The FeatureView as it was when that version was declared."""
    used: dict[str, str] = msgspec.field(default_factory=dict)
    """Digests of the views that it uses."""


class FunctionsRuntime(Runtime):
    """The functions of one view, loaded."""

    signature = SIGNATURE

    def __init__(self, definition: Definition, code: Path) -> None:
        """Raises `TaskError` where a function cannot be loaded."""
        self._definition, self._code = definition, code
        self._made: dict[bytes, RequestFeatures] = {}
        try:
            self._functions = {f.function: load_function(code, f.function) for f in definition.request}
        except Exception as error:
            raise TaskError(f"FeatureView {definition.name}: {described(error, code)}") from error

    @property
    def facts(self) -> dict[str, str]:
        return {"runtime": f"python {sys.version.split()[0]}", "provider": "CPU"}

    def run(self, inputs: dict[str, Array]) -> list[Array]:
        data = inputs["rows"].item()
        if not data:  # the warm-up's
            return [np.array([written(pa.table({}))], dtype=object)]
        try:
            rows = read(data)
            features = self._features((rows.schema.metadata or {}).get(WANTED, b""))
        except pa.ArrowInvalid as error:
            raise InvalidBatchError(f"rows: expected an Arrow IPC stream: {first_line(error)}") from error
        try:
            made = features.of({name: rows.column(name) for name in rows.column_names}, len(rows))
        except RequestUnfit as error:
            raise BatchError(str(error)) from error
        except Exception as error:
            raise BatchError(f"FeatureView {self._definition.name}: {described(error, self._code)}") from error
        return [np.array([written(pa.table(made))], dtype=object)]

    def _features(self, wanted: bytes) -> RequestFeatures:
        if wanted not in self._made:
            request = needed(self._definition, wanted.decode().split(","))
            self._made[wanted] = RequestFeatures(
                replace(self._definition, request=request), self._functions.__getitem__
            )
        return self._made[wanted]


def needed(definition: Definition, wanted: list[str]) -> tuple[Any, ...]:
    """The features of requests that those wanted are made of, each after those it takes."""
    names = set(wanted)
    for feature in reversed(definition.request):
        if feature.name in names:
            names |= set(feature.inputs)
    return tuple(feature for feature in definition.request if feature.name in names)


def runtime_of(task: FunctionsTask, folder: Path) -> FunctionsRuntime:
    """The functions, from the view's code bundle. Raises `TaskError` and the lake's `StoreUnavailable`."""
    try:
        view = FeatureView.model_validate(task.view)
        definition = definition_of(view, task.used)
        if definition.digest != task.digest or view.spec.code is None:
            raise TaskError(f"FeatureView {task.model}: expected the version {task.digest}, found {definition.digest}")
        unpack(Store.open(task.store_url), view.spec.code, folder)
    except (ValueError, DefinitionError, CodeError, DigestMismatch, ObjectMissing) as error:
        raise TaskError(f"FeatureView {task.model}: {error}") from error
    return FunctionsRuntime(definition, folder)


def main() -> int:
    """Returns the exit status: 0 after SIGTERM, 2 where starting again will not help, 1 where it may."""
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
    surroundings = Surroundings.from_environment(os.environ)
    return exit_code_of(lambda: _serve(surroundings), surroundings, (StoreUnavailable, OSError))


def _serve(surroundings: Surroundings) -> None:
    task = FunctionsTask.from_environment(os.environ)
    folder = Path(tempfile.mkdtemp(prefix="mizzen-functions-")) / "code"
    uvloop.run(Worker(task, surroundings, lambda: Model(runtime_of(task, folder)), lambda: None).run())


if __name__ == "__main__":
    sys.exit(main())

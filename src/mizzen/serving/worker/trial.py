"""`python -m mizzen.serving.worker.trial FOLDER`: a model, unpacked in a folder, tried by the code that will serve it.

For whoever registers it: in a process of its own, which may crash or hang without harm, and in the model's own
environment. The rows are in `rows.npz`, as `rows/NAME` (or there are none: then those the class itself has as
`example`, or one row of zeros). It writes `report.json`, and the answers to all rows at once and to the first ones
alone into `answers.npz`, as `all/NAME` and `0/NAME`, `1/NAME`, …, with the rows themselves as `rows/NAME`.
"""

import faulthandler
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mizzen.serving.tensors import Signature, TensorSpec
from mizzen.serving.worker.arrays import Array, array_of, zeros
from mizzen.serving.worker.errors import BatchError, TaskError
from mizzen.serving.worker.runtimes.loading import runtime_of
from mizzen.serving.worker.runtimes.python import PythonRuntime
from mizzen.serving.worker.runtimes.runtime import Runtime

ALONE = 8
"""Rows that are also run alone: a library may take another path for a single row."""


def main(folder: Path, trusted: Sequence[str]) -> int:
    """0 where there is a report that says whether it works."""
    faulthandler.enable()
    report: dict[str, Any] = {"error": None}
    arrays: dict[str, Array] = {}
    try:
        runtime = runtime_of(folder, 1, trusted)
        given = _given(folder, runtime)
        rows = given
        if isinstance(runtime, PythonRuntime):
            rows = given if given is not None else runtime.own_example()
            if rows is not None:
                runtime.complete_signature(rows)
        signature = runtime.signature
        _expect_whole(signature)
        report |= {"signature": _wire(signature), "streams": runtime.streams, "facts": runtime.facts}
        arrays = _answered(runtime, rows)
    except (TaskError, BatchError) as error:
        report["error"] = str(error)
    saved: dict[str, Any] = {name: _savable(values) for name, values in arrays.items()}
    np.savez(folder / "answers.npz", **saved)
    (folder / "report.json").write_text(json.dumps(report))
    return 0


def _given(folder: Path, runtime: Runtime) -> dict[str, Array] | None:
    path = folder / "rows.npz"
    if not path.exists():
        return None
    with np.load(path) as found:
        return {name.removeprefix("rows/"): _as_given(found[name], text=runtime.text) for name in found.files}


def _as_given(values: Array, *, text: bool) -> Array:
    """As a request would bring it: text as text or bytes, as the runtime takes it."""
    if values.dtype.kind == "U" and not text:
        return np.array([value.encode() for value in values.ravel().tolist()], dtype=object).reshape(values.shape)
    return values.astype(object) if values.dtype.kind in "US" else values


def _savable(values: Array) -> Array:
    """Without pickles: objects become text, or bytes."""
    return np.asarray(values.tolist()) if values.dtype == object else values


def _expect_whole(signature: Signature) -> None:
    for which, specs in (("inputs", signature.inputs), ("outputs", signature.outputs)):
        if not specs:
            raise TaskError(
                f"expected the model's {which}: declare them in the class "
                f'({which} = {{"x": ("FP32", [-1, 4])}}), or register it with an example'
            )


def _answered(runtime: Runtime, rows: dict[str, Array] | None) -> dict[str, Array]:
    """What the model answers; nothing where there was no example and it does not answer zeros."""
    names = [spec.name for spec in runtime.signature.outputs]
    if rows is None:
        rows = {spec.name: array_of(zeros(spec, 1), text=runtime.text) for spec in runtime.signature.inputs}
        try:
            found = dict(zip(names, runtime.run(rows), strict=True))
        except BatchError:
            return {}
        return _under("rows", rows) | _under("all", found)
    arrays = _under("rows", rows) | _under("all", dict(zip(names, runtime.run(rows), strict=True)))
    if runtime.signature.batchable:
        for index in range(min(ALONE, *(len(values) for values in rows.values()))):
            one = {name: values[index : index + 1] for name, values in rows.items()}
            arrays |= _under(str(index), dict(zip(names, runtime.run(one), strict=True)))
    return arrays


def _under(prefix: str, arrays: dict[str, Array]) -> dict[str, Array]:
    return {f"{prefix}/{name}": values for name, values in arrays.items()}


def _wire(signature: Signature) -> dict[str, Any]:
    def tensors(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
        return [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]

    return {"inputs": tensors(signature.inputs), "outputs": tensors(signature.outputs)}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))

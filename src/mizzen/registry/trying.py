"""A model tried by the code that will serve it, before it becomes a version.

What is tried is a folder as a worker would unpack it (`package.py`), in a process of its own and in the model's own
environment (`python -m mizzen.serving.worker.trial`): what passes here loads and answers there.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mizzen.data.lake.code import unpack
from mizzen.data.lake.errors import LakeError
from mizzen.data.lake.objects import Store, digest_of
from mizzen.kinds.build import Signature
from mizzen.registry.environments import Environment
from mizzen.registry.errors import CorruptModel, ModelUnfit
from mizzen.registry.onnx_file import Feed
from mizzen.registry.package import CODE, DOCUMENT, FILES, FileEntry, Package

TIMEOUT_S = 300.0
Part = tuple[FileEntry, bytes | Path]
"""A file of a model, with what is in it."""
Answers = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Tried:
    """A model that was loaded, and what it answered."""

    signature: Signature
    rows: Feed | None
    """What it was given and answered; `None` where it was given nothing it knows."""
    answers: Answers
    """To all rows at once."""
    alone: list[Answers]
    """To each of the first rows by itself."""
    streams: bool


def entry_of(path: str, data: bytes | Path) -> FileEntry:
    """A file under that name."""
    content = data if isinstance(data, bytes) else data.read_bytes()
    return FileEntry(path, digest_of(content), len(content))


def lay_out(folder: Path, package: Package, parts: Sequence[Part], store: Store | None = None) -> None:
    """The model's folder. Raises `ModelUnfit` where its code bundle is not to be had."""
    (folder / FILES).mkdir(parents=True)
    (folder / DOCUMENT).write_bytes(package.encode())
    for entry, data in parts:
        path = folder / FILES / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, bytes):
            path.write_bytes(data)
        else:
            path.symlink_to(data.resolve())
    if package.code is not None and store is not None:
        try:
            unpack(store, package.code, folder / CODE)
        except LakeError as error:
            raise ModelUnfit(str(error)) from error


def try_out(
    folder: Path,
    rows: Feed | None,
    *,
    environment: Environment | None = None,
    trusted: Sequence[str] = (),
    timeout_s: float = TIMEOUT_S,
) -> Tried:
    """The model in the folder, given the rows.

    Raises `ModelUnfit` where it does not load, refuses them, dies or hangs.
    """
    if rows is not None:
        saved: dict[str, Any] = {f"rows/{name}": _savable(values) for name, values in rows.items()}
        np.savez(folder / "rows.npz", **saved)
    variables = dict(os.environ)
    if environment is None:
        python = sys.executable
        variables["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    else:
        python = str(environment.python)
        variables.pop("PYTHONPATH", None)
    command = [python, "-P", "-m", "mizzen.serving.worker.trial", str(folder), *trusted]
    try:
        run = subprocess.run(
            command, cwd=folder, env=variables, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelUnfit(f"the model did not load and answer within {timeout_s:.0f} s") from error
    if run.returncode != 0:
        lines = run.stderr.strip().splitlines()
        first = next((line for line in lines if line.startswith("Fatal")), lines[-1] if lines else "")
        raise CorruptModel(f"the process that tried the model died (exit code {run.returncode}): {first[:300]}")
    report = json.loads((folder / "report.json").read_text())
    if report["error"] is not None:
        raise ModelUnfit(report["error"])
    return _tried(folder, report)


def _tried(folder: Path, report: dict[str, Any]) -> Tried:
    parts: dict[str, Answers] = {}
    with np.load(folder / "answers.npz") as found:
        for name in found.files:
            prefix, _, inner = name.partition("/")
            values = found[name]
            parts.setdefault(prefix, {})[inner] = values.astype(object) if values.dtype.kind in "US" else values
    alone = [parts[str(index)] for index in range(len(parts)) if str(index) in parts]
    signature = Signature.model_validate(report["signature"])
    return Tried(signature, parts.get("rows"), parts.get("all", {}), alone, bool(report["streams"]))


def _savable(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(values.tolist()) if values.dtype == object else values

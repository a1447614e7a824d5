"""Mizzen as it is measured: the gateway, its workers and the prediction log's writer, with everything switched on.

Twice: with the request path's hot modules compiled (`make native`, which is what `make bench-serving` does first), and as
the Python that an install from the sources is.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import mizzen
from benchmarks.serving.asking import Ask
from benchmarks.serving.measuring import CannotRunError
from benchmarks.serving.models import HEAVY, MODELS, Model, onnx_bytes
from benchmarks.serving.systems import OIP, Place, System, free_port, spawn

KEY = "benchmark-key"
VERSIONS = (1, 2)
IN_MEMORY = Path("/dev/shm").is_dir()
SETTINGS = (
    "1 gateway process, 1 worker process for each of 2 versions that share the traffic evenly, 1 thread each; API key, "
    "limits, metrics; every request logged to a Delta table by a process of its own; batches of one for the heavy model"
)


PACKAGE = Path(mizzen.__file__).parent


def start(stack: ExitStack, place: Place, *, native: bool) -> None:
    """All processes. Raises `CannotRunError` where native code is asked for and not there."""
    folder = place.folder
    if native and not _is_compiled():
        raise CannotRunError("the hot modules are not compiled: make native")
    sources = PACKAGE.parent if native else _without_native_code(folder)
    rings = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mz-", dir="/dev/shm" if IN_MEMORY else None)))
    endpoints, workers = [], []
    for model in MODELS.values():
        declared = []
        for version in VERSIONS:
            digest = _stored(folder, model, version)
            uid = f"{model.name}{version}"
            declared.append(
                {"model": model.name, "version": version, "digest": f"sha256:{digest}", "percent": 100 // len(VERSIONS)}
            )
            workers.append(
                {"uid": uid, "namespace": "default", "endpoint": model.name, "digest_prefix": digest[:16],
                 "address": {"type": "unix", "path": str(folder / uid / "worker.sock")}}
            )  # fmt: skip
            _worker(stack, folder, sources, model.name, version, digest, uid)
        batching = {"batch_rows_max": 1} if model is HEAVY else {}
        endpoints.append({"namespace": "default", "name": model.name, "logging": {}, "versions": declared, **batching})
    hashed = hashlib.sha256(KEY.encode()).hexdigest()
    keys = {"k": {"hash": hashed, "namespace": "default", "endpoints": list(MODELS)}}
    directory = folder / "directory.json"
    directory.write_text(json.dumps({"endpoints": endpoints, "workers": workers, "keys": keys}))
    _python(
        stack, folder, sources, {},
        "mizzen.serving.gateway", "--directory", str(directory), "--port", str(place.port), "--grpc-port",
        str(place.grpc_port), "--processes", "1", "--log-dir", str(rings),
    )  # fmt: skip
    _python(
        stack, folder, sources, {},
        "mizzen.serving.predictionlog", "--folder", str(rings), "--spool", str(folder / "spool"), "--store",
        f"file://{folder}/store",
    )  # fmt: skip


def _stored(folder: Path, model: Model, version: int) -> str:
    """Puts the model into the store, each version with a digest of its own."""
    encoded = onnx_bytes(model, f"version {version}")
    digest = hashlib.sha256(encoded).hexdigest()
    store = folder / "store" / "models" / "sha256"
    store.mkdir(parents=True, exist_ok=True)
    (store / f"{digest}.onnx").write_bytes(encoded)
    return digest


def _is_compiled() -> bool:
    return any(PACKAGE.glob("native__mypyc.*"))


def _without_native_code(folder: Path) -> Path:
    shutil.copytree(PACKAGE, folder / "src" / PACKAGE.name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return folder / "src"


def _worker(stack: ExitStack, folder: Path, sources: Path, name: str, version: int, digest: str, uid: str) -> None:
    task: dict[str, Any] = {
        "storeUrl": f"file://{folder}/store", "model": name, "version": version, "digest": f"sha256:{digest}",
        "namespace": "default", "endpoint": name, "threads": 1,
    }  # fmt: skip
    environment = {
        "MIZZEN_TASK": json.dumps(task), "MIZZEN_RUN_DIR": str(folder / uid), "MIZZEN_ROOTFS": str(folder / uid),
        "MIZZEN_PORT_HEALTH": str(free_port()), "MIZZEN_HEALTH_HOST": "127.0.0.1",
    }  # fmt: skip
    (folder / uid).mkdir()
    _python(stack, folder, sources, environment, "mizzen.serving.worker")


def _python(
    stack: ExitStack, folder: Path, sources: Path, environment: dict[str, str], *module_and_arguments: str
) -> None:
    everything = {**os.environ, "PYTHONPATH": str(sources), **environment}
    spawn(stack, [sys.executable, "-m", *module_and_arguments], everything, folder / "log")


def _with_deadline(ask: Ask, deadline_ms: float) -> Ask:
    return ask.with_headers({"Request-Timeout-Ms": f"{deadline_ms:g}"})


ASKS = tuple(ask.with_headers({"Authorization": f"Bearer {KEY}"}) for ask in OIP)
MIZZEN = System(
    "mizzen", f"{SETTINGS}; the hot modules compiled (make native)", partial(start, native=True), ASKS,
    lambda: mizzen.__version__, _with_deadline,
)  # fmt: skip
MIZZEN_PYTHON = System(
    "mizzen, Python", "the same, nothing compiled", partial(start, native=False),
    tuple(ask for ask in ASKS if ask.model != HEAVY.name), lambda: mizzen.__version__, _with_deadline,
)  # fmt: skip
AS_IT_IS = MIZZEN if _is_compiled() else MIZZEN_PYTHON
"""For those who measure something else than what compiling gains."""

"""Mizzen as it is measured: the gateway, its workers and the prediction log's writer, with everything switched on."""

import hashlib
import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mizzen
import mizzen.policy.queue.queue
from benchmarks.serving.asking import Ask
from benchmarks.serving.models import HEAVY, MODELS, Model, onnx_bytes
from benchmarks.serving.systems import OIP, Place, System, free_port, spawn

KEY = "benchmark-key"
VERSIONS = (1, 2)
IN_MEMORY = Path("/dev/shm").is_dir()
NATIVE = not str(mizzen.policy.queue.queue.__file__).endswith(".py")
SETTINGS = (
    f"{'compiled (`make native`)' if NATIVE else 'pure Python'}; 1 gateway process, 1 worker process for each of 2 versions that share the traffic evenly, 1 thread each; API key, "
    "limits, metrics; every request logged to a Delta table by a process of its own; batches of one for the heavy model"
)


def start(stack: ExitStack, place: Place) -> None:
    """All processes."""
    folder = place.folder
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
            _worker(stack, folder, model.name, version, digest, uid)
        batching = {"batch_rows_max": 1} if model is HEAVY else {}
        endpoints.append({"namespace": "default", "name": model.name, "logging": {}, "versions": declared, **batching})
    hashed = hashlib.sha256(KEY.encode()).hexdigest()
    keys = {"k": {"hash": hashed, "namespace": "default", "endpoints": list(MODELS)}}
    directory = folder / "directory.json"
    directory.write_text(json.dumps({"endpoints": endpoints, "workers": workers, "keys": keys}))
    _python(
        stack, folder, {},
        "mizzen.serving.gateway", "--directory", str(directory), "--port", str(place.port), "--grpc-port",
        str(place.grpc_port), "--processes", "1", "--log-dir", str(rings),
    )  # fmt: skip
    _python(
        stack, folder, {},
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


def _worker(stack: ExitStack, folder: Path, name: str, version: int, digest: str, uid: str) -> None:
    task: dict[str, Any] = {
        "storeUrl": f"file://{folder}/store", "model": name, "version": version, "digest": f"sha256:{digest}",
        "namespace": "default", "endpoint": name, "threads": 1,
    }  # fmt: skip
    environment = {
        "MIZZEN_TASK": json.dumps(task), "MIZZEN_RUN_DIR": str(folder / uid), "MIZZEN_ROOTFS": str(folder / uid),
        "MIZZEN_PORT_HEALTH": str(free_port()), "MIZZEN_HEALTH_HOST": "127.0.0.1",
    }  # fmt: skip
    (folder / uid).mkdir()
    _python(stack, folder, environment, "mizzen.serving.worker")


def _python(stack: ExitStack, folder: Path, environment: dict[str, str], *module_and_arguments: str) -> None:
    spawn(stack, [sys.executable, "-m", *module_and_arguments], {**os.environ, **environment}, folder / "log")


def _with_deadline(ask: Ask, deadline_ms: float) -> Ask:
    return ask.with_headers({"Request-Timeout-Ms": f"{deadline_ms:g}"})


MIZZEN = System(
    "mizzen", SETTINGS, start, tuple(ask.with_headers({"Authorization": f"Bearer {KEY}"}) for ask in OIP),
    lambda: mizzen.__version__, _with_deadline,
)  # fmt: skip

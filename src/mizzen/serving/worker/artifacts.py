"""The model's bytes by digest: from the store, through a cache on this machine where the store is remote.

What is returned has been hashed, and is what is loaded: the runtime is given these bytes, not a path that could hold
others by then. A cached file that does not match is thrown away and fetched anew; one from the store that does not match
is refused.
"""

import hashlib
import os
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from mizzen.serving.worker.task import Task, TaskError


class StoreUnavailableError(Exception):
    """The store did not answer; starting again may help."""


def model_key(digest: str) -> str:
    """Where a model's bytes are in the store."""
    return f"models/sha256/{digest.removeprefix('sha256:')}.onnx"


def example_key(digest: str) -> str:
    """Where example inputs for it are, as the JSON of an inference request."""
    return f"models/sha256/{digest.removeprefix('sha256:')}.example.json"


def fetch_model(task: Task, cache: Path) -> bytes:
    """The model's bytes, verified. Raises `TaskError` (absent, corrupt) and `StoreUnavailableError`."""
    wanted = task.digest.removeprefix("sha256:")
    remote = not task.store_url.startswith("file:")
    cached = cache / "models" / f"{wanted}.onnx"
    if remote and cached.exists():
        data = cached.read_bytes()
        if hashlib.sha256(data).hexdigest() == wanted:
            return data
        cached.unlink(missing_ok=True)
    found = _get(task.store_url, model_key(task.digest))
    if found is None:
        raise TaskError(f"model {task.model}:{task.version}: no {model_key(task.digest)} in {task.store_url}")
    digest = hashlib.sha256(found).hexdigest()
    if digest != wanted:
        raise TaskError(
            f"model {task.model}:{task.version} is corrupt in {task.store_url}: "
            f"expected sha256:{wanted}, found sha256:{digest} ({len(found)} bytes); register it again"
        )
    if remote:
        _keep(cached, found)
    return found


def fetch_example(task: Task) -> bytes | None:
    """Example inputs for the warm-up; `None` where the store has none. Raises `StoreUnavailableError`."""
    return _get(task.store_url, example_key(task.digest))


def _get(store_url: str, key: str) -> bytes | None:
    try:
        return bytes(obstore.get(from_url(store_url), key).bytes())
    except FileNotFoundError:
        return None
    except (BaseError, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise StoreUnavailableError(f"{store_url}: cannot read {key}: {reason}") from error


def _keep(path: Path, data: bytes) -> None:
    """Written beside and renamed, so that no other worker sees half of it. A full disk is no reason not to serve."""
    partial = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial.write_bytes(data)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)

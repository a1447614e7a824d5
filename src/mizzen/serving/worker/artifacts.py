"""The model's bytes by digest: from the store, through a cache on this machine where the store is remote.

What is returned has been hashed, and is what is loaded: the runtime is given these bytes, not a path that could hold
others by then. A cached file that does not match is thrown away and fetched anew; one from the store that does not
match is refused.

(`mizzen.registry` writes what is read here. It is not imported, since it brings the kinds with it, and a worker's start
is measured in milliseconds.)
"""

import os
import time
from pathlib import Path

from mizzen.data.lake.errors import DigestMismatch, ObjectMissing
from mizzen.data.lake.objects import Store, digest_of, hex_of, path_by_digest
from mizzen.serving.worker.errors import TaskError
from mizzen.serving.worker.task import Task

FOLDER, MODEL, EXAMPLE = "models", ".onnx", ".example.json"
BACKGROUND, FOREST = ".background.npz", ".forest.npz"


class Artifacts:
    """What the store has of one model version."""

    def __init__(self, task: Task, cache: Path) -> None:
        """Raises `TaskError` for a URL of no known kind."""
        self._task = task
        self.fetch_s = 0.0
        """How long `model` took."""
        try:
            self._store = Store.open(task.store_url)
        except ValueError as error:
            raise TaskError(f"MIZZEN_TASK.storeUrl: {error}") from error
        self._cached = cache / FOLDER / f"{hex_of(task.digest)}{MODEL}"

    def model(self) -> bytes:
        """The model's bytes, verified. Raises `TaskError` (absent, corrupt) and the lake's `StoreUnavailable`."""
        began_s = time.monotonic()
        try:
            return self._model()
        finally:
            self.fetch_s = time.monotonic() - began_s

    def _model(self) -> bytes:
        task = self._task
        remote = not task.store_url.startswith("file:")
        if remote and self._cached.exists():
            data = self._cached.read_bytes()
            if digest_of(data) == task.digest:
                return data
            self._cached.unlink(missing_ok=True)
        try:
            found = self._store.get_by_digest(FOLDER, task.digest, MODEL)
        except ObjectMissing as error:
            raise TaskError(f"model {task.model}:{task.version}: {error}") from error
        except DigestMismatch as error:
            raise TaskError(f"model {task.model}:{task.version} is corrupt: {error}; register it again") from error
        if remote:
            self._keep(found)
        return found

    def example(self) -> bytes | None:
        """Example inputs for the warm-up, as the JSON of an inference request; `None` where the store has none."""
        return self.beside(EXAMPLE)

    def beside(self, ending: str) -> bytes | None:
        """What lies under the model's digest with that ending; `None` where there is nothing."""
        try:
            return self._store.get(path_by_digest(FOLDER, self._task.digest, ending))
        except ObjectMissing:
            return None

    def _keep(self, data: bytes) -> None:
        """Written beside and renamed, so that no other worker sees half of it. A full disk is no reason not to
        serve.
        """
        partial = self._cached.with_suffix(f".{os.getpid()}")
        try:
            partial.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            partial.write_bytes(data)
            partial.replace(self._cached)
        except OSError:
            partial.unlink(missing_ok=True)

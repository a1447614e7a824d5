"""The model's bytes by digest: the file in the store where that is on this machine, else one in the node's cache.

What is given to the runtime is a file that is held open and has been hashed: whatever comes to lie under its name,
these are the bytes that are loaded. No copy of them is made in this process (for 128 MiB of weights, ONNX Runtime took
0.42 s and 426 MB from bytes in memory, 0.26 s and 242 MB from the file), and workers that start one after the other
find them in the page cache. Into the cache they come once, however many workers start at the same time, in parts that
are fetched side by side; one that does not match is thrown away and fetched anew, and one from the store that does not
match is refused.

(`mizzen.registry` writes what is read here. It is not imported, since it brings the kinds with it, and a worker's start
is measured in milliseconds.)
"""

import contextlib
import fcntl
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mizzen.data.lake.errors import DigestMismatch, ObjectMissing
from mizzen.data.lake.objects import DIGEST_PREFIX, Store, hex_of, path_by_digest
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
        self._path = path_by_digest(FOLDER, task.digest, MODEL)
        self._cached = cache / FOLDER / f"{hex_of(task.digest)}{MODEL}"

    @contextlib.contextmanager
    def model(self) -> Iterator[Path | bytes]:
        """The model, verified, as long as it is held. Raises `TaskError` (absent, corrupt) and the lake's
        `StoreUnavailable`.
        """
        held = self._fetched()
        if isinstance(held, bytes):
            yield held
            return
        with held:
            yield Path(f"/dev/fd/{held.fileno()}")

    def _fetched(self) -> BinaryIO | bytes:
        began_s = time.monotonic()
        task = self._task
        try:
            return self._model()
        except ObjectMissing as error:
            raise TaskError(f"model {task.model}:{task.version}: {error}") from error
        except DigestMismatch as error:
            raise TaskError(f"model {task.model}:{task.version} is corrupt: {error}; register it again") from error
        finally:
            self.fetch_s = time.monotonic() - began_s

    def _model(self) -> BinaryIO | bytes:
        stored = self._store.local_path(self._path)
        if stored is not None:
            if not stored.exists():
                raise ObjectMissing(f"{self._store.url_of(self._path)}: nothing is stored there")
            return self._verified(stored)
        try:
            return self._from_cache()
        except OSError:  # a full disk is no reason not to serve
            return self._store.get_by_digest(FOLDER, self._task.digest, MODEL)

    def _from_cache(self) -> BinaryIO:
        self._cached.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._cached.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # whoever else starts waits for what the first one fetches
            if self._cached.exists():
                try:
                    return self._verified(self._cached)
                except DigestMismatch:
                    self._cached.unlink()
            self._store.download(self._path, self._cached, digest=self._task.digest)
            return self._verified(self._cached)

    def _verified(self, path: Path) -> BinaryIO:
        """The file, open. Raises `DigestMismatch`."""
        file = path.open("rb")
        found = DIGEST_PREFIX + hashlib.file_digest(file, "sha256").hexdigest()
        if found != self._task.digest:
            file.close()
            raise DigestMismatch(self._store.url_of(self._path), self._task.digest, found)
        return file

    def example(self) -> bytes | None:
        """Example inputs for the warm-up, as the JSON of an inference request; `None` where the store has none."""
        return self.beside(EXAMPLE)

    def beside(self, ending: str) -> bytes | None:
        """What lies under the model's digest with that ending; `None` where there is nothing."""
        try:
            return self._store.get(path_by_digest(FOLDER, self._task.digest, ending))
        except ObjectMissing:
            return None

"""`python -m mizzen.serving.worker.unpacking`: a model that is more than one file, from the store into a folder of this
process, every part verified by its digest; then this becomes `unpacked` there, in the model's own environment.

Files of weights are kept in the node's cache, whole and verified, and linked into the folder, so that replicas share
them in memory too. The code bundle is unpacked for each process: what a user's code writes beside itself is its own.
"""

import hashlib
import logging
import os
import sys
import tempfile
from pathlib import Path

from mizzen.data.lake.code import unpack
from mizzen.data.lake.errors import CodeError, DigestMismatch, ObjectMissing, StoreUnavailable
from mizzen.data.lake.objects import DIGEST_PREFIX, Store, path_by_digest
from mizzen.registry.environments import Environment, EnvironmentFailed, ensure, sweep
from mizzen.registry.package import (
    CODE,
    DOCUMENT,
    ENDING,
    EXAMPLE,
    FILES,
    FILES_FOLDER,
    FOLDER,
    FileEntry,
    Package,
    PackageError,
    decode,
)
from mizzen.serving.worker.ending import exit_code_of
from mizzen.serving.worker.errors import TaskError
from mizzen.serving.worker.process import processors
from mizzen.serving.worker.task import Surroundings, Task

log = logging.getLogger("mizzen.worker")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What numeric libraries take their number of threads from when they are loaded; what the user set is left."""


class Unpacking:
    """One model version's parts."""

    def __init__(self, task: Task, cache: Path) -> None:
        """Raises `TaskError` for a URL of no known kind."""
        self._task, self._cache = task, cache
        try:
            self._store = Store.open(task.store_url)
        except ValueError as error:
            raise TaskError(f"MIZZEN_TASK.storeUrl: {error}") from error

    def unpack(self, folder: Path) -> tuple[Package, Environment | None]:
        """Everything in its place, and the environment to run in, where the model has one of its own.

        Raises `TaskError` (absent, corrupt), the lake's `StoreUnavailable` and `EnvironmentFailed`.
        """
        task = self._task
        try:
            document = self._store.get_by_digest(FOLDER, task.digest, ENDING)
            package = decode(document)
            folder.mkdir(parents=True, mode=0o700)
            (folder / DOCUMENT).write_bytes(document)
            for entry in package.files:
                self._link(entry, folder / FILES / entry.path)
            (folder / FILES).mkdir(exist_ok=True)
            if package.code is not None:
                unpack(self._store, package.code, folder / CODE)
            requirements = None if package.requirements is None else self._verified(package.requirements).read_bytes()
        except ObjectMissing as error:
            raise TaskError(f"model {task.model}:{task.version}: {error}") from error
        except (DigestMismatch, CodeError, PackageError) as error:
            raise TaskError(f"model {task.model}:{task.version} is corrupt: {error}; register it again") from error
        if requirements is None:
            return package, None
        sweep(self._cache)
        return package, ensure(requirements, self._cache)

    def example(self) -> bytes | None:
        """Example inputs for the warm-up, as the JSON of an inference request; `None` where the store has none."""
        try:
            return self._store.get(path_by_digest(FOLDER, self._task.digest, ".example.json"))
        except ObjectMissing:
            return None

    def _link(self, entry: FileEntry, to: Path) -> None:
        if ".." in Path(entry.path).parts or Path(entry.path).is_absolute():
            raise PackageError(f"files: expected paths inside the model's folder, got {entry.path!r}")
        to.parent.mkdir(parents=True, exist_ok=True)
        to.symlink_to(self._verified(entry))

    def _verified(self, entry: FileEntry) -> Path:
        """The file in the cache, with the bytes that it is to have."""
        kept = self._cache / path_by_digest(FILES_FOLDER, entry.digest, "")
        if kept.exists() and _digest_of_file(kept) == entry.digest:
            return kept
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._store.download(path_by_digest(FILES_FOLDER, entry.digest, ""), kept, digest=entry.digest)
        return kept


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return DIGEST_PREFIX + hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    """Returns the exit status where there is nothing to become."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
    surroundings = Surroundings.from_environment(os.environ)
    return exit_code_of(
        lambda: _become_unpacked(surroundings), surroundings, (StoreUnavailable, EnvironmentFailed, OSError)
    )


def _become_unpacked(surroundings: Surroundings) -> None:
    task = Task.from_environment(os.environ)
    unpacking = Unpacking(task, surroundings.cache)
    folder = Path(tempfile.mkdtemp(prefix="mizzen-model-")) / "model"
    _, own = unpacking.unpack(folder)
    example = unpacking.example()
    if example is not None:
        (folder / EXAMPLE).write_bytes(example)
    environment = {**dict.fromkeys(THREAD_VARIABLES, str(task.threads or processors())), **os.environ}
    python = sys.executable
    if own is not None:
        log.info("environment: %s", own.folder)
        python = str(own.python)
        environment.pop("PYTHONPATH", None)  # the host's packages are not the model's
    command = [python, "-P", "-m", "mizzen.serving.worker.unpacked", str(folder)]
    os.execve(python, command, environment)  # noqa: S606 - no shell, and nobody's words but ours


if __name__ == "__main__":
    sys.exit(main())

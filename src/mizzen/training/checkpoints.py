"""A folder whose files outlive the Pod.

What the function writes there is copied to the store every few seconds and when the Pod is asked to stop; a run that is
started again finds it in the same place. A file is copied only when it has not changed since the last look, so one that
is being written is not torn; a file that must never be seen half-written is written under another name (`.tmp`, or a
leading dot, which are not copied) and renamed. What was written in the last seconds before a `kill -9` may be lost.
"""

import contextlib
import logging
import threading
from pathlib import Path
from typing import Self

from mizzen.data.lake.errors import LakeError
from mizzen.data.lake.objects import Store

_LOG = logging.getLogger(__name__)
_PERIOD_S = 2.0

_Seen = tuple[int, int]
"""(size, modification time in ns)."""


class Checkpoints:
    """The folder, and the thread that copies it. Use it as a context manager."""

    def __init__(self, store: Store, prefix: str, folder: Path, *, period_s: float = _PERIOD_S) -> None:
        self.folder = folder
        self._store, self._prefix, self._period_s = store, prefix, period_s
        self._copied: dict[str, _Seen] = {}
        self._looked: dict[str, _Seen] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._copy_now_and_then, name="mizzen-checkpoints", daemon=True)

    def __enter__(self) -> Self:
        self.restore()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.copy(settled_only=False)

    def restore(self) -> int:
        """Fetches what an earlier Pod of the run left; returns how many files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        found = self._store.list(self._prefix)
        for stored in found:
            name = stored.path.removeprefix(f"{self._prefix}/")
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._store.download(stored.path, path)
            self._copied[name] = _seen(path)
        return len(found)

    def copy(self, *, settled_only: bool) -> None:
        """Copies what is new and deletes what is gone. Failures are logged, and the next look tries again."""
        with self._lock, contextlib.suppress(FileNotFoundError):
            now = {
                path.relative_to(self.folder).as_posix(): _seen(path)
                for path in self.folder.rglob("*")
                if path.is_file() and not path.name.startswith(".") and path.suffix != ".tmp"
            }
            try:
                for name, seen in now.items():
                    settled = not settled_only or self._looked.get(name) == seen
                    if settled and self._copied.get(name) != seen:
                        self._store.put(f"{self._prefix}/{name}", self.folder / name)
                        self._copied[name] = seen
                for name in [name for name in self._copied if name not in now]:
                    self._store.delete(f"{self._prefix}/{name}")
                    del self._copied[name]
            except LakeError as error:
                _LOG.warning("checkpoints cannot be copied now: %s", error)
            self._looked = now

    def forget(self) -> None:
        """Takes the run's checkpoints out of the store: its result is there."""
        for stored in self._store.list(self._prefix):
            self._store.delete(stored.path)

    def _copy_now_and_then(self) -> None:
        while not self._stop.wait(self._period_s):
            self.copy(settled_only=True)


def _seen(path: Path) -> _Seen:
    status = path.stat()
    return status.st_size, status.st_mtime_ns

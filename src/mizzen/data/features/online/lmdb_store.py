"""Records in LMDB: a memory-mapped file that all processes of one machine share.

Readers take no lock and wait for nobody; one writer at a time. A commit is durable when it returns: LMDB writes new
pages beside the old ones and then the root, so that a process killed at any point leaves the last commit.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import lmdb

from mizzen.data.features.errors import StoreUnavailable
from mizzen.data.features.online.store import Changes

MAP_BYTES = 1 << 40
"""Address space, not disk: the file grows with what is in it."""


class LmdbStore:
    """A store in a folder."""

    def __init__(self, folder: Path, *, map_bytes: int = MAP_BYTES, durable: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        with self._errors():
            self._environment = lmdb.open(
                str(folder), map_size=map_bytes, sync=durable, max_readers=1024, readahead=False, max_spare_txns=8
            )
            self._environment.reader_check()

    def __repr__(self) -> str:
        return f"LmdbStore({str(self.folder)!r})"

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (lmdb.Error, OSError) as error:
            raise StoreUnavailable(f"online store {self.folder}: {error}") from error

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        try:
            with self._environment.begin() as transaction:
                return [transaction.get(key) for key in keys]
        except lmdb.Error as error:
            raise StoreUnavailable(f"online store {self.folder}: {error}") from error

    def write(
        self, keys: Sequence[bytes], place: bytes, change: Callable[[bytes | None, list[bytes | None]], Changes]
    ) -> None:
        with self._errors(), self._environment.begin(write=True) as transaction:
            changes = change(transaction.get(place), [transaction.get(key) for key in keys])
            for key, record in changes.items():
                if record is None:
                    transaction.delete(key)
                else:
                    transaction.put(key, record)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        with self._errors(), self._environment.begin() as transaction, transaction.cursor() as cursor:
            if not cursor.set_range(prefix):
                return
            for key, record in cursor:
                if not key.startswith(prefix):
                    return
                yield key, record

    def close(self) -> None:
        self._environment.close()

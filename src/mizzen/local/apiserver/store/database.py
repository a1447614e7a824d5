"""The store's file: one append-only table of changes, written by one thread, a batch for each transaction.

    changes(revision, resource, namespace, name, deleted, object)

The objects there are now are the last change of each name; everything older is history. As revisions only grow, every
write appends to the right edge of one B-tree and no index is needed: all look-ups are answered from memory. Compaction
is exact: the store knows which revisions nobody can ask for any more and has them deleted along with the next batch.

WAL with `synchronous=FULL`: a committed batch has been through `fsync` and survives kill -9 and power loss. The file is
held with a lock beside it, so that a second server on the same home is told which process is there first.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

SCHEMA_VERSION = 1
APPLICATION_ID = 0x6D697A7A  # "mizz"

_SCHEMA = """
CREATE TABLE changes (
  revision INTEGER PRIMARY KEY, resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
  deleted INTEGER NOT NULL, object BLOB NOT NULL
);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('horizon', 0), ('revision', 0);
"""


class HomeError(OSError):
    """This home cannot be used: someone else uses it, a newer version wrote it, or it is not a store."""


class CommitError(Exception):
    """A batch could not be made durable; none of it was written."""


class Row(NamedTuple):
    """A change as it is stored; `resource` is `group/plural`, the group empty for the core group."""

    revision: int
    resource: str
    namespace: str
    name: str
    deleted: bool
    object: bytes


class Database:
    """Opened, loaded and committed to by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(path.with_suffix(".lock"))
        try:
            self._connection = self._open()
        except BaseException:
            self._lock.close()
            raise

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            # Exclusive locking keeps the WAL index in this process's memory instead of a shared file.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise HomeError(
                    f"{self.path}: written by a newer version of Mizzen (store format {version}, this one knows up to "
                    f"{SCHEMA_VERSION}): use that version, or another home"
                )
            if version and application != APPLICATION_ID:
                raise HomeError(f"{self.path}: not a store of Mizzen: use another home")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            # 16 MiB: moving the log into the file holds writers up for tens of milliseconds, so not too often.
            connection.execute("PRAGMA wal_autocheckpoint = 4000")
            if version == 0:
                connection.executescript(
                    f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID}; "
                    f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
                )
        except sqlite3.DatabaseError as error:
            connection.close()
            raise HomeError(f"{self.path}: cannot be opened as a store: {error}") from error
        except HomeError:
            connection.close()
            raise
        return connection

    def counters(self) -> tuple[int, int]:
        """`(horizon, revision)`: up to where history is gone, and the highest revision ever given."""
        values = dict(self._connection.execute("SELECT name, value FROM counters").fetchall())
        return values["horizon"], values["revision"]

    def load(self) -> Iterator[Row]:
        """Every change that is kept, oldest first."""
        cursor = self._connection.execute(
            "SELECT revision, resource, namespace, name, deleted, object FROM changes ORDER BY revision"
        )
        for revision, resource, namespace, name, deleted, encoded in cursor:
            yield Row(revision, resource, namespace, name, bool(deleted), encoded)

    def commit(self, rows: Sequence[Row], forget: Sequence[int], horizon: int) -> None:
        """Make the rows durable and forget revisions, all or nothing."""
        execute = self._connection.execute
        try:
            execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?)", rows)
            if forget:
                self._connection.executemany("DELETE FROM changes WHERE revision = ?", [(r,) for r in forget])
                execute("UPDATE counters SET value = ? WHERE name = 'horizon'", (horizon,))
            if rows:
                execute("UPDATE counters SET value = ? WHERE name = 'revision'", (rows[-1].revision,))
            execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise CommitError(str(error)) from error

    def close(self) -> None:
        self._connection.close()
        self._lock.close()


def _lock(path: Path) -> IO[str]:
    """Hold the file for as long as it is open, or say which process does."""
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise HomeError(
            f"{path.parent}: another API server (process {owner}) uses this home: stop it, or use another home"
        ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file

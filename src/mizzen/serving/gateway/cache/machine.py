"""The tier that all gateway processes of one machine share: an LMDB environment for each endpoint that asks for one.

Reads are a few microseconds, without locks, on the event loop. Writes are handed to one thread of the process, which
puts what has gathered into one transaction; when it falls behind, what comes is not kept, and counted.

The folder belongs to one gateway (all processes of one parent), which begins with an empty one and removes it at its
end: what is kept never meets another boot, so nothing is ever synced to disk.

    FOLDER/<namespace>.<endpoint>/<generation>/data.mdb, lock.mdb, open.<slot>
    entries  8 bytes of the model's digest, 32 of the key's  ->  the entry, behind its checksum (`entry`)
    expiry   8 bytes of microseconds, big endian, and that   ->  nothing: the oldest first

**Full.** Entries go in the order in which they expire, which is the order in which they came. LMDB needs free pages to
delete anything, so the file is larger than what may be used.

**Damage.** A process that is killed leaves a consistent environment: a transaction that was not committed is not there,
and the lock it held goes to the next. But a process that died may have died of what it read, so whoever finds the mark
of a predecessor in its own slot, or a file that is too short, or is told of damage by LMDB, begins the next generation;
all others follow as soon as they write.
"""

import logging
import queue
import shutil
import threading
from collections.abc import Callable, Collection
from pathlib import Path

import lmdb

from mizzen.serving.gateway.cache.entry import Entry, packed, unpacked

log = logging.getLogger("mizzen.gateway")
FILL = 0.6
"""How much of the file may be used, beside `SLACK_BYTES`."""
SLACK_BYTES = 32 << 20
"""A transaction writes every page it touches anew, and what it frees is free two transactions later: this is enough for
`BATCH_MAX` writes and as many deletions in pages of their own. The file is sparse."""
ENTRY_SHARE_MAX = 0.125
"""The largest entry that is kept, as a share of what may be used."""
WAITING_MAX = 4096
"""Writes that may wait for the thread."""
BATCH_MAX = 256
"""Writes of one transaction; fewer where they are large (`ENTRY_SHARE_MAX` of the tier together)."""
READERS_MAX = 512
_MODEL_BYTES = 8
_CLOCK_BYTES = 8


class MachineTier:
    """One endpoint's environment. `get` is for the event loop, everything that writes for the thread."""

    def __init__(self, folder: Path, slot: int, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.healed = 0
        """How often this process began a new generation."""
        self._folder = folder
        self._slot = slot
        self._broken = False
        self._generation = self._newest()
        if self._mark.exists() or self._is_cut_short():
            self._heal("a process died while it had this open")
        else:
            self._open()

    def get(self, digest: bytes, model_digest: str, now: float) -> Entry | None:
        """The entry of that digest, whoever's key it is."""
        if self._broken:
            return None
        try:
            with self._environment.begin(db=self._entries, buffers=True) as transaction:
                data = transaction.get(_place(model_digest, digest))
                entry = unpacked(data) if data is not None else None
        except lmdb.Error as error:
            self._broken = True  # the thread heals it when it writes next
            log.warning("%s: %s", self._path, error)
            return None
        return entry if entry is not None and entry.expires_s > now else None

    @property
    def bytes_used(self) -> int:
        """Bytes in use, of all processes' entries."""
        try:
            with self._environment.begin() as transaction:
                return self._used(transaction)
        except lmdb.Error:
            return 0

    # On the thread

    def write(self, entries: list[tuple[bytes, Entry]], now: float) -> None:
        """Keeps these, and makes room."""
        self._follow()
        waiting, size_max = list(reversed(entries)), self.bytes_max * ENTRY_SHARE_MAX
        try:
            while True:
                with self._environment.begin(write=True) as transaction:
                    self._expire(transaction, now)
                    size = 0.0
                    while waiting and size < size_max:
                        digest, entry = waiting.pop()
                        size += entry.size
                        self._put(transaction, _place(entry.model_digest, digest), entry)
                    while self._used(transaction) > self.bytes_max and self._drop_oldest(transaction):
                        pass
                if not waiting:
                    return
        except lmdb.Error as error:
            self._heal(str(error))

    def keep_models(self, digests: Collection[str]) -> None:
        """Frees what other models answered."""
        self._follow()
        kept = {_model(digest) for digest in digests}
        try:
            with self._environment.begin(write=True) as transaction:
                with transaction.cursor(self._expiry) as cursor:
                    gone = [bytes(key) for key in cursor.iternext(values=False) if _model_of(key) not in kept]
                for key in gone:
                    self._drop(transaction, key)
        except lmdb.Error as error:
            self._heal(str(error))

    def close(self) -> None:
        """In good order: the slot's next process may trust what is here."""
        self._mark.unlink(missing_ok=True)
        self._environment.close()

    def _put(self, transaction: lmdb.Transaction, place: bytes, entry: Entry) -> None:
        data = packed(entry)
        if len(data) > self.bytes_max * ENTRY_SHARE_MAX:
            return
        old = transaction.get(place, db=self._entries)
        old_entry = unpacked(old) if old is not None else None
        if old_entry is not None:
            transaction.delete(_due(old_entry.expires_s) + place, db=self._expiry)
        transaction.put(place, data, db=self._entries)
        transaction.put(_due(entry.expires_s) + place, b"", db=self._expiry)

    def _expire(self, transaction: lmdb.Transaction, now: float) -> None:
        due = _due(now)
        with transaction.cursor(self._expiry) as cursor:
            while cursor.first() and bytes(cursor.key())[:_CLOCK_BYTES] <= due:
                transaction.delete(bytes(cursor.key())[_CLOCK_BYTES:], db=self._entries)
                cursor.delete()

    def _drop_oldest(self, transaction: lmdb.Transaction) -> bool:
        with transaction.cursor(self._expiry) as cursor:
            if not cursor.first():
                return False
            key = bytes(cursor.key())
        self._drop(transaction, key)
        return True

    def _drop(self, transaction: lmdb.Transaction, key: bytes) -> None:
        transaction.delete(key, db=self._expiry)
        transaction.delete(key[_CLOCK_BYTES:], db=self._entries)

    def _used(self, transaction: lmdb.Transaction) -> int:
        found = [transaction.stat(database) for database in (self._entries, self._expiry)]
        return sum((f["branch_pages"] + f["leaf_pages"] + f["overflow_pages"]) * f["psize"] for f in found)

    # Generations

    @property
    def _path(self) -> Path:
        return self._folder / str(self._generation)

    @property
    def _mark(self) -> Path:
        return self._path / f"open.{self._slot}"

    def _newest(self) -> int:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return max((int(path.name) for path in self._folder.iterdir() if path.name.isdigit()), default=0)

    def _follow(self) -> None:
        """To the newest generation; to a new one where what is read is damaged."""
        newest = self._newest()
        if newest != self._generation:
            self._generation = newest
            self._open()
        elif self._broken:
            self._heal("damaged")

    def _heal(self, why: str) -> None:
        log.warning("%s: begun anew: %s", self._folder, why)
        old = self._path
        self.healed += 1
        self._generation = max(self._newest(), self._generation) + 1
        self._open()
        shutil.rmtree(old, ignore_errors=True)

    def _open(self) -> None:
        """A reader that is still in the old environment keeps it alive until it is through."""
        self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._environment = lmdb.open(
            str(self._path), map_size=int(self.bytes_max / FILL) + SLACK_BYTES, max_dbs=2, max_readers=READERS_MAX,
            sync=False, metasync=False, readahead=False, meminit=False, mode=0o600,
        )  # fmt: skip
        self._environment.reader_check()  # places of readers that were killed
        self._entries = self._environment.open_db(b"entries")
        self._expiry = self._environment.open_db(b"expiry")
        self._mark.touch()
        self._broken = False

    def _is_cut_short(self) -> bool:
        """A map of pages that the file does not have ends the process that reads them."""
        data = self._path / "data.mdb"
        if not data.exists():
            return False
        try:
            with lmdb.open(str(self._path), readonly=True, lock=False) as environment:
                pages = environment.info()["last_pgno"] + 1
                return bool(data.stat().st_size < pages * environment.stat()["psize"])
        except lmdb.Error:
            return True


class MachineCache:
    """All endpoints' tiers in this process, and the thread that writes them."""

    def __init__(self, folder: Path, slot: int, clock: Callable[[], float]) -> None:
        self.dropped = 0
        """Writes that were not done, since the thread had too many."""
        self._folder = folder
        self._slot = slot
        self._clock = clock
        self._tiers: dict[str, MachineTier] = {}
        self._work: queue.Queue[tuple[MachineTier, bytes, Entry] | Callable[[], None] | None] = queue.Queue(WAITING_MAX)
        self._thread: threading.Thread | None = None

    def tier(self, namespace: str, endpoint: str, bytes_max: int) -> MachineTier | None:
        """The endpoint's tier; `None` where there can be none, which is told in the log."""
        name = f"{namespace}.{endpoint}"
        tier = self._tiers.get(name)
        if tier is None:
            try:
                tier = self._tiers[name] = MachineTier(self._folder / name, self._slot, bytes_max)
            except (OSError, lmdb.Error) as error:
                log.warning("%s: answers are not shared between processes: %s", self._folder / name, error)
                return None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="machine cache", daemon=True)
                self._thread.start()
        tier.bytes_max = bytes_max
        return tier

    def put(self, tier: MachineTier, digest: bytes, entry: Entry) -> None:
        """Keeps the entry, soon."""
        self._hand((tier, digest, entry))

    def keep_models(self, tier: MachineTier, digests: Collection[str]) -> None:
        """Frees what other models answered, soon."""
        self._hand(lambda: tier.keep_models(digests))

    def forget(self, namespace: str, endpoint: str) -> None:
        """The endpoint is gone, or shares no answers any more."""
        tier = self._tiers.pop(f"{namespace}.{endpoint}", None)
        if tier is not None:
            self._hand(tier.close)
            shutil.rmtree(self._folder / f"{namespace}.{endpoint}", ignore_errors=True)

    def close(self) -> None:
        """Writes what waits, and ends."""
        if self._thread is not None:
            self._work.put(None)
            self._thread.join()
        for tier in self._tiers.values():
            tier.close()
        self._tiers.clear()

    def _hand(self, work: tuple[MachineTier, bytes, Entry] | Callable[[], None]) -> None:
        try:
            self._work.put_nowait(work)
        except queue.Full:
            self.dropped += 1

    def _run(self) -> None:
        batches: dict[MachineTier, list[tuple[bytes, Entry]]] = {}
        gathered = 0
        while (work := self._work.get()) is not None:
            if callable(work):
                self._write(batches)
                work()
            else:
                tier, digest, entry = work
                batches.setdefault(tier, []).append((digest, entry))
                gathered += 1
            if gathered >= BATCH_MAX or self._work.empty():
                self._write(batches)
                gathered = 0
        self._write(batches)

    def _write(self, batches: dict[MachineTier, list[tuple[bytes, Entry]]]) -> None:
        for tier, entries in batches.items():
            try:
                tier.write(entries, self._clock())
            except (OSError, lmdb.Error) as error:
                self.dropped += len(entries)
                log.warning("%s: answers are not shared between processes: %s", self._folder, error)
        batches.clear()


def _model(digest: str) -> bytes:
    return bytes.fromhex(digest.removeprefix("sha256:")[: 2 * _MODEL_BYTES])


def _model_of(expiry_key: bytes | memoryview) -> bytes:
    return bytes(expiry_key[_CLOCK_BYTES : _CLOCK_BYTES + _MODEL_BYTES])


def _place(model_digest: str, digest: bytes) -> bytes:
    return _model(model_digest) + digest


def _due(expires_s: float) -> bytes:
    return int(expires_s * 1e6).to_bytes(_CLOCK_BYTES, "big")

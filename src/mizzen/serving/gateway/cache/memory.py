"""This process's tier: the entries that were asked for last, within a number of bytes and a time."""

from collections import OrderedDict
from collections.abc import Collection

from mizzen.serving.gateway.cache.entry import Entry


class Memory:
    """Least recently used entries go first when it is full; entries go when their time is over.

    An entry that is larger than the whole is not kept.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes = 0
        self.evicted = 0
        """Entries that went before their time, for want of room."""
        self._bytes_max = bytes_max
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, digest: bytes, now: float) -> Entry | None:
        """The entry of that digest, whoever's key it is."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        if entry.expires_s <= now:
            self._drop(digest)
            return None
        self._entries.move_to_end(digest)
        return entry

    def put(self, digest: bytes, entry: Entry) -> None:
        """Keeps the entry in the place of what was there."""
        self._drop(digest)
        size = entry.size
        if size > self._bytes_max:
            return
        self._entries[digest] = entry
        self.bytes += size
        self._shrink()

    def resize(self, bytes_max: int) -> None:
        """It may be so large from now on."""
        self._bytes_max = bytes_max
        self._shrink()

    def keep_models(self, digests: Collection[str]) -> None:
        """Frees what other models answered."""
        for digest in [key for key, entry in self._entries.items() if entry.model_digest not in digests]:
            self._drop(digest)

    def clear(self) -> None:
        """Frees everything."""
        self._entries.clear()
        self.bytes = 0

    def _shrink(self) -> None:
        while self.bytes > self._bytes_max:
            _, entry = self._entries.popitem(last=False)
            self.bytes -= entry.size
            self.evicted += 1

    def _drop(self, digest: bytes) -> None:
        entry = self._entries.pop(digest, None)
        if entry is not None:
            self.bytes -= entry.size

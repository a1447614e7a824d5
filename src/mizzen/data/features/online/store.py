"""The port of an online store: records by key, and transactions that write records and a place together.

Error contract: every method raises `StoreUnavailable` where the store does not answer or is full; the caller decides
whether to try again. A transaction is seen whole or not at all, also after the process was killed, and two of them that
read and write the same place never interleave: the second sees what the first wrote, or is run again. So `write` takes
a function from what is stored to what is to be stored, which may be called more than once and has no effect of its own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

Record = bytes | memoryview
Changes = Mapping[bytes, bytes | None]
"""What is to be stored; `None` takes a key away."""


class OnlineStore(Protocol):
    """Records by key."""

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The records, as of one moment; `None` where there is none."""

    def write(
        self, keys: Sequence[bytes], place: bytes, change: Callable[[bytes | None, list[bytes | None]], Changes]
    ) -> None:
        """One transaction: `change(place's record, records of the keys)` says what is stored."""

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every record whose key begins so, in no order; keys that are written meanwhile may be missed."""

    def close(self) -> None:
        """Lets go of files and connections."""

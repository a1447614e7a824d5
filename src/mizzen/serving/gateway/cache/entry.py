"""An answer as it is kept: the whole key it belongs to, and the outputs as tensors.

Tensors and not a body, so that the same entry is answered as JSON, as binary and over gRPC, with each request's own id.
In shared tiers an entry is msgpack behind a checksum: a page that was damaged on the way or on disk is no entry.
"""

import hashlib
from collections.abc import Sequence

import msgspec

from mizzen.serving.tensors import DATATYPES, BadTensorError, Tensor, checked_size

OVERHEAD_BYTES = 512
"""What an entry takes beside its bytes: objects, table slots. Measured with tracemalloc: 430 to 500."""
_CHECKSUM_BYTES = 8


class Output(msgspec.Struct, array_like=True, frozen=True):
    """One tensor of the answer."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """What is kept."""

    key: bytes
    model_digest: str
    outputs: tuple[Output, ...]
    expires_s: float
    """On the clock of the tier it is in; the wall clock where machines share it."""

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return OVERHEAD_BYTES + len(self.key) + sum([len(output.data) for output in self.outputs])

    def tensors(self) -> dict[str, Tensor]:
        """The outputs by name; the data is shared and not to be written to."""
        return {o.name: Tensor(o.name, o.datatype, o.shape, o.data) for o in self.outputs}


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


def entry_of(key: bytes, model_digest: str, outputs: Sequence[Tensor], expires_s: float) -> Entry:
    """Copies the data: what came from a worker is a view of a whole batch, which is not to be kept for one row."""
    kept = tuple(Output(tensor.name, tensor.datatype, tensor.shape, bytes(tensor.data)) for tensor in outputs)
    return Entry(key, model_digest, kept, expires_s)


def packed(entry: Entry) -> bytes:
    """The entry's form in shared tiers."""
    body = _encode(entry)
    return _checksum(body) + body


def unpacked(data: bytes | memoryview) -> Entry | None:
    """The entry; `None` where the bytes are none, or not as they were written."""
    if bytes(data[:_CHECKSUM_BYTES]) != _checksum(data[_CHECKSUM_BYTES:]):
        return None
    try:
        entry = _decode(data[_CHECKSUM_BYTES:])
        for output in entry.outputs:
            checked_size(DATATYPES[output.datatype], output.shape, output.data)
    except (msgspec.DecodeError, KeyError, BadTensorError, UnicodeDecodeError):
        return None
    return entry


def _checksum(body: bytes | memoryview) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECKSUM_BYTES).digest()

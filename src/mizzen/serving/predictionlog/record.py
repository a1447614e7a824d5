"""What the gateway notes of requests, in the form in which it travels to the table.

A *stream* says once what records mean: whose they are and which signature types them. A *chunk* holds the records of
one stream that were answered together, usually a batch: their facts, and each tensor's bytes of all of them, one
after the other. So a record costs the gateway a tuple and a copy; the bytes become columns in another process.

Redacted columns never leave the gateway: a tensor that is one column is left out, one of several has zeros there, and
both are nulls in the table.
"""

import hashlib
from collections.abc import Sequence

import msgspec

from mizzen.serving.tensors import DATATYPES, Buffer, Signature, Tensor, TensorSpec, element_count


class Stream(msgspec.Struct, frozen=True):
    """What records are of."""

    namespace: str
    endpoint: str
    model: str = ""
    version: int = 0
    digest: str = ""
    """Empty where requests were refused before a version was chosen."""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    features: tuple[TensorSpec, ...] = ()
    """What was looked up for the request, as it was used."""
    columns: tuple[str, ...] = ()
    """Names of the columns of the only input, where that is a matrix."""
    feature_columns: tuple[str, ...] = ()
    """The same of the only feature."""
    redact: tuple[str, ...] = ()
    sink: str = ""
    """Where CloudEvents go; empty: nowhere."""
    events: str = "all"
    """`request`, `response` or `all`."""

    @property
    def signature(self) -> Signature:
        return Signature(self.inputs, self.outputs)

    def encoded(self) -> bytes:
        """As JSON: the same stream gives the same bytes."""
        return msgspec.json.encode(self, order="deterministic")


def stream_id(stream: Stream) -> str:
    """The name of a stream: equal for equal streams."""
    return hashlib.sha256(stream.encoded()).hexdigest()[:16]


class Record(msgspec.Struct, array_like=True, gc=False):
    """The facts of one request. The gateway writes them as a plain tuple in this order."""

    id: str
    rows: int
    """At least 1: a request that was refused undecoded has one row, without values."""
    came_s: float
    """On the gateway's clock; the chunk's `epoch_s` makes wall clock of it."""
    queue_s: float | None
    """From the whole request read to its being sent to a worker; `None` where it never was."""
    compute_s: float | None
    """Its batch in the runtime."""
    total_s: float
    """From the whole request read to its answer."""
    batch_rows: int | None
    tenant: str | None
    unit: str | None
    """Whom the version was chosen for."""
    assignment: str | None
    """How the version was chosen: `traffic`, or `pinned` by the client."""
    trace: str | None
    """Trace id, 32 hex digits, where the request was traced."""
    status: int
    outcome: str
    error: str | None
    part: int | None = None
    """Of an answer in parts: which one it is, from 0. The first has the request's inputs with it, the others have none;
    a failure after some parts has the number of the one that did not come.
    """


class Chunk(msgspec.Struct, array_like=True, gc=False):
    """Records of one stream. `inputs`, `outputs` and `features` are empty where none of them has any."""

    stream: str
    epoch_s: float
    records: list[Record]
    inputs: list[bytes]
    outputs: list[bytes]
    features: list[bytes]
    input_shapes: list[list[tuple[int, ...]]] | None = None
    """Shapes of each record's inputs, where the signature does not say them."""
    output_shapes: list[list[tuple[int, ...]]] | None = None
    feature_shapes: list[list[tuple[int, ...]]] | None = None


encode_chunk = msgspec.msgpack.Encoder().encode
decode_chunk = msgspec.msgpack.Decoder(Chunk).decode


def stream_name(payload: bytes) -> str:
    """The stream of an encoded chunk, without decoding it: the array's first element, 16 characters behind their
    length.
    """
    return payload[2:18].decode("ascii")


def is_fixed(specs: Sequence[TensorSpec]) -> bool:
    """Whether shapes follow from the number of rows."""
    return all(spec.shape[:1] == (-1,) and -1 not in spec.shape[1:] for spec in specs)


def redactions(specs: Sequence[TensorSpec], columns: Sequence[str], redact: Sequence[str]) -> dict[int, list[int]]:
    """By the index of a tensor: the columns of it that are redacted; empty: all of it."""
    found: dict[int, list[int]] = {}
    for index, spec in enumerate(specs):
        if spec.name in redact:
            found[index] = []
        elif len(specs) == 1 and (hidden := [at for at, name in enumerate(columns) if name in redact]):
            found[index] = hidden if len(spec.shape) == 2 and spec.shape[1] == len(columns) else []
    return found


def joined(
    tensors: Sequence[Sequence[Tensor]], specs: Sequence[TensorSpec], hidden: dict[int, list[int]]
) -> list[bytes]:
    """Each tensor's bytes of all requests, one after the other."""
    parts: list[Sequence[Buffer]] = [[tensor.data for tensor in column] for column in zip(*tensors, strict=True)]
    whole = [b"".join(part) for part in parts]
    for index, columns in hidden.items():
        whole[index] = _without(whole[index], specs[index], columns)
    return whole


def _without(data: bytes, spec: TensorSpec, columns: list[int]) -> bytes:
    size = DATATYPES[spec.datatype].size
    if not columns or not size:
        return b""
    step = element_count(spec.shape[1:]) * size
    kept = bytearray(data)
    for column in columns:
        for byte in range(column * size, (column + 1) * size):
            kept[byte::step] = bytes(len(data) // step)
    return bytes(kept)

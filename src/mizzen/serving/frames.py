"""The framed protocol between a gateway and a worker, for both ends.

A connection (Unix socket or TCP) carries frames in both directions, each a multiple of 8 bytes long:

    offset  size  meaning
    0       4     u32 little endian: bytes of the whole frame, these included
    4       1     u8: kind (`Kind`)
    5       3     u24 little endian: bytes of the header
    8       H     header: one msgpack array, see the class of that kind
    8+H     …     zero bytes up to a multiple of 8
    …       …     the tensors of the header in order: raw little-endian elements (`mizzen.serving.tensors`), each
                  followed by zero bytes up to a multiple of 8, so that each starts aligned

The talk:

    worker   HELLO    protocol, who it is, which model version (digest), its signature, how many batches it will take
    gateway  RUN      one batch, which costs one credit
    worker   RESULT   the batch's outputs, and how many credits are granted anew (normally one)
    worker   ERROR    that batch failed, with the reason; credits likewise
    worker   GRANT    credits apart from an answer
    gateway  CANCEL   nobody waits for that batch any more; if it has not begun, it is answered with ERROR `cancelled`
    worker   DRAIN    no more RUN or GENERATE, please: what was sent is answered (or refused with ERROR `not-run`), then
                      it closes

And of a model that yields, for one request whose answer comes in parts (a stream):

    gateway  GENERATE the request, which takes one of the worker's `streams`, and how many parts may come (its window)
    worker   PART     one part: the outputs of the signature; takes one from the window
    gateway  MORE     so many parts more may come: said as parts are passed on, so that who reads slowly is computed for
                      slowly, and nothing gathers on the way
    gateway  CANCEL   nobody reads any more: takes effect before the next part is computed
    worker   END      there are no more parts
    worker   ERROR    there are no more parts, with the reason; parts that came before are as they are

GENERATE is answered by any number of PARTs and then by exactly one END or ERROR, which gives its place back; streams
cost no credits, and `credits` of an ERROR to a stream is 0. A worker computes the parts of several streams, and batches
between them, in turn. A stream that breaks off with the connection is not begun again elsewhere: its first parts may
have been read.

A gateway never sends RUN without a credit, so that a worker holds at most what it granted: the queue is in the
gateways. The number of a batch or stream is chosen by the gateway and unique in its connection. Every RUN is answered
exactly once, unless the connection breaks, which means: what was not answered may or may not have been computed
(inference has no effects, so it may be run again elsewhere).

There is no authentication: a Unix socket is for its user only, and a TCP port is for a network (a Kubernetes
NetworkPolicy) that only gateways are in.

Every length is checked before it is used. `FrameError` means that the other end does not speak this protocol (or
another version of it), and the connection is of no more use.
"""

import enum
import struct
from collections.abc import Sequence

import msgspec

from mizzen.serving.tensors import DATATYPES, BadTensorError, Buffer, Datatype, Signature, Tensor, checked_size

PROTOCOL_VERSION = 1
"""Fields are added at the end of a header, with a default: who does not know them yet passes over them."""
FRAME_BYTES_MAX = 1 << 30
HEADER_BYTES_MAX = (1 << 24) - 1
_PREFIX_BYTES = 8
_PREFIX = struct.Struct("<II")
"""The whole frame's bytes; the kind, and above it the header's bytes."""
TOGETHER_BYTES_MAX = 64 << 10
"""Up to here it is cheaper to copy the data of a batch's requests into one piece than to hand the system each."""
_PADDING = tuple(bytes(-size % 8) for size in range(8))


class FrameError(Exception):
    """What came is not a frame of this protocol; the message says what was expected and found."""


class Kind(enum.IntEnum):
    """What a frame is."""

    HELLO = 1
    GRANT = 2
    RUN = 3
    RESULT = 4
    ERROR = 5
    CANCEL = 6
    DRAIN = 7
    GENERATE = 8
    PART = 9
    MORE = 10
    END = 11


class TensorHead(msgspec.Struct, array_like=True, frozen=True):
    """What the header says of a tensor in the frame."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    size: int
    """Bytes of its data, without padding."""


class Hello(msgspec.Struct, array_like=True, frozen=True):
    """The worker's first frame."""

    protocol: int
    worker: str
    """Name of the Pod, for people."""
    model: str
    version: int
    digest: str
    """`sha256:<hex>` of the model's bytes, as verified before they were loaded."""
    signature: Signature
    credits: int
    """Batches that may be sent before the first answer."""
    streams: int = 0
    """Streams that may be open at once; 0 where the model does not yield."""
    profile: tuple[tuple[int, float], ...] = ()
    """(rows, seconds) of batches as they were measured in the warm-up, smallest first; empty where none were."""


class Grant(msgspec.Struct, array_like=True, frozen=True):
    """Credits apart from an answer."""

    credits: int


class Run(msgspec.Struct, array_like=True, frozen=True):
    """One batch."""

    batch: int
    tensors: tuple[TensorHead, ...]


class Result(msgspec.Struct, array_like=True, frozen=True):
    """A batch's outputs."""

    batch: int
    compute_s: float
    """Seconds in the runtime."""
    wait_s: float
    """Seconds the batch lay in the worker before that."""
    credits: int
    tensors: tuple[TensorHead, ...]


class ErrorCode(enum.StrEnum):
    """Why a batch has no outputs."""

    FAILED = "failed"
    """The runtime refused it: another run with the same rows fails too."""
    INVALID = "invalid"
    """The inputs are none that the model takes: the client is at fault."""
    CANCELLED = "cancelled"
    NOT_RUN = "not-run"
    """The worker is going; nothing is wrong with the batch."""


class Failure(msgspec.Struct, array_like=True, frozen=True):
    """A batch has no outputs, or a stream ends before its time."""

    batch: int
    """Its number."""
    code: ErrorCode
    message: str
    credits: int


class Cancel(msgspec.Struct, array_like=True, frozen=True):
    """Nobody waits for that batch or stream any more."""

    batch: int
    """Its number."""


class Drain(msgspec.Struct, array_like=True, frozen=True):
    """The worker is going."""

    reason: str


Parameter = bool | int | float | str


class Generate(msgspec.Struct, array_like=True, frozen=True):
    """One request whose answer comes in parts."""

    stream: int
    window: int
    """Parts that may come before the first MORE; at least 1."""
    parameters: dict[str, Parameter]
    """The request's own, for the model to read (`temperature`, `max_tokens`)."""
    tensors: tuple[TensorHead, ...]


class Part(msgspec.Struct, array_like=True, frozen=True):
    """One part of a stream: the outputs of the signature, in its order."""

    stream: int
    compute_s: float
    """Seconds in the runtime for this part."""
    tensors: tuple[TensorHead, ...]


class More(msgspec.Struct, array_like=True, frozen=True):
    """So many parts more may come."""

    stream: int
    parts: int


class End(msgspec.Struct, array_like=True, frozen=True):
    """There are no more parts."""

    stream: int
    parts: int
    """How many there were."""
    compute_s: float
    """Seconds in the runtime, of all parts."""
    wait_s: float
    """Seconds until the first part was begun."""


Header = Hello | Grant | Run | Result | Failure | Cancel | Drain | Generate | Part | More | End
_KINDS: dict[type[Header], int] = {
    Hello: Kind.HELLO,
    Grant: Kind.GRANT,
    Run: Kind.RUN,
    Result: Kind.RESULT,
    Failure: Kind.ERROR,
    Cancel: Kind.CANCEL,
    Drain: Kind.DRAIN,
    Generate: Kind.GENERATE,
    Part: Kind.PART,
    More: Kind.MORE,
    End: Kind.END,
}
_WITH_TENSORS = (Run, Result, Generate, Part)
_DECODERS = {kind: msgspec.msgpack.Decoder(type_) for type_, kind in _KINDS.items()}
_encode = msgspec.msgpack.Encoder().encode


def write_frame(header: Header, data: Sequence[Buffer] = ()) -> list[Buffer]:
    """The frame as buffers to be written one after the other, a small one as one buffer; `data` in the order of the
    header's tensors.

    A tensor may be given as several buffers (the rows of several requests): their sizes add up to the header's.
    Raises `FrameError` where the frame would be longer than the protocol allows.
    """
    encoded = _encode(header)
    size = len(encoded)
    parts: list[Buffer] = [b"", encoded]
    if size & 7:
        parts.append(_PADDING[size & 7])
    total = _PREFIX_BYTES + size + (-size & 7)
    if isinstance(header, _WITH_TENSORS):
        position, buffers = 0, len(data)
        for head in header.tensors:
            written = 0
            while written < head.size and position < buffers:
                parts.append(data[position])
                written += len(data[position])
                position += 1
            if written != head.size:
                raise FrameError(f"tensor {head.name!r}: expected {head.size} bytes, got {written}")
            if written & 7:
                parts.append(_PADDING[written & 7])
            total += written + (-written & 7)
    if total > FRAME_BYTES_MAX or size > HEADER_BYTES_MAX:
        raise FrameError(f"expected a frame of at most {FRAME_BYTES_MAX} bytes, got {total} with a header of {size}")
    parts[0] = _PREFIX.pack(total, size << 8 | _KINDS[type(header)])
    return [b"".join(parts)] if total <= TOGETHER_BYTES_MAX else parts


class Frame(msgspec.Struct):
    """A frame that came: its header and the data of its tensors (views into what was read)."""

    header: Header
    tensors: list[Tensor]


class FrameReader:
    """Puts what a socket reads together into frames.

    Memory held is what really came, never what a length field promises. A frame that came whole in one read is not
    copied; one that came in pieces is copied once.
    """

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._pieces: list[bytes] = []
        self._held = 0
        self._wanted = _PREFIX_BYTES

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises `FrameError`; the reader is of no more use then."""
        frames: list[Frame] = []
        if self._held:
            self._pieces.append(data)
            self._held += len(data)
            if self._held < self._wanted:
                return frames
            data = b"".join(self._pieces)
            self._pieces, self._held = [], 0
        size = len(data)
        view = memoryview(data)
        start = 0
        while True:
            left = size - start
            if left < _PREFIX_BYTES:
                self._wanted = _PREFIX_BYTES
                break
            total = int.from_bytes(view[start : start + 4], "little")
            if not _PREFIX_BYTES <= total <= self._frame_bytes_max or total & 7:
                raise FrameError(
                    f"expected a frame of {_PREFIX_BYTES} to {self._frame_bytes_max} bytes, a multiple of 8, "
                    f"got {total}"
                )
            if left < total:
                self._wanted = total
                break
            frames.append(_parse(view[start : start + total]))
            start += total
        if start < size:
            self._pieces, self._held = [data[start:]], size - start
        return frames


def _parse(frame: memoryview) -> Frame:
    kind = frame[4]
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise FrameError(f"expected a frame of kind 1 to {len(_DECODERS)}, got {kind}")
    end = _PREFIX_BYTES + int.from_bytes(frame[5:8], "little")
    if end > len(frame):
        raise FrameError(f"expected a header of at most {len(frame) - _PREFIX_BYTES} bytes, got {end - _PREFIX_BYTES}")
    try:
        header = decoder.decode(frame[_PREFIX_BYTES:end])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"expected the header of {Kind(kind).name}, got what does not decode: {error}") from error
    if not isinstance(header, _WITH_TENSORS):
        return Frame(header, [])
    tensors = []
    position = end + (-end & 7)
    for head in header.tensors:
        stop = position + head.size
        if head.size < 0 or stop > len(frame):
            raise FrameError(f"tensor {head.name!r}: expected {head.size} bytes, the frame has {len(frame) - position}")
        tensors.append(Tensor(head.name, head.datatype, head.shape, _checked(head, frame[position:stop])))
        position = stop + (-stop & 7)
    if position != len(frame):
        raise FrameError(f"expected the frame to end after its tensors at {position}, it has {len(frame)} bytes")
    return Frame(header, tensors)


def _checked(head: TensorHead, data: memoryview) -> memoryview:
    datatype: Datatype | None = DATATYPES.get(head.datatype)
    if datatype is None:
        raise FrameError(f"tensor {head.name!r}: expected one of {', '.join(DATATYPES)}, got {head.datatype!r}")
    if head.shape and min(head.shape) < 0:
        raise FrameError(f"tensor {head.name!r}: expected a shape without negative lengths, got {list(head.shape)}")
    try:
        checked_size(datatype, head.shape, data)
    except BadTensorError as error:
        raise FrameError(f"tensor {head.name!r}: {error}") from error
    return data

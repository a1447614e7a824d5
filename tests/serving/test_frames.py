"""Frames: what is written is read, however it is cut; what is no frame is refused, whatever it is."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.serving.frames import (
    PROTOCOL_VERSION,
    Cancel,
    Drain,
    End,
    ErrorCode,
    Failure,
    Frame,
    FrameError,
    FrameReader,
    Generate,
    Grant,
    Hello,
    Kind,
    More,
    Part,
    Result,
    Run,
    TensorHead,
    write_frame,
)

from .builders import UNHURRIED, signature, spec, tensor


def frame(header, *tensors) -> bytes:
    return b"".join(write_frame(header, [one.data for one in tensors]))


def heads(*tensors):
    return tuple(TensorHead(t.name, t.datatype, t.shape, len(t.data)) for t in tensors)


def seen(frames: list[Frame]):
    return [(f.header, [(t.name, t.datatype, t.shape, bytes(t.data)) for t in f.tensors]) for f in frames]


TENSORS = [tensor([1.5, -2.0, 3.25]), tensor(["a", "", "cde"], "BYTES", name="words"), tensor([], "INT8", (0, 4), "no")]
HELLO = Hello(PROTOCOL_VERSION, "pod", "m", 3, "sha256:" + "0" * 64, signature(spec(), spec("z", "BYTES", (-1,))), 2)
ALL = [
    (HELLO, []),
    (Grant(2), []),
    (Run(7, heads(*TENSORS)), TENSORS),
    (Result(7, 0.25, 0.125, 1, heads(TENSORS[0])), [TENSORS[0]]),
    (Failure(8, ErrorCode.FAILED, "division by zero", 1), []),
    (Cancel(9), []),
    (Drain("bye"), []),
    (Generate(10, 4, {"temperature": 0.5, "n": 3, "echo": True, "stop": "."}, heads(*TENSORS[:2])), TENSORS[:2]),
    (Part(10, 0.5, heads(TENSORS[1])), [TENSORS[1]]),
    (More(10, 4), []),
    (End(10, 1, 0.5, 0.25), []),
]


@UNHURRIED
@given(st.data())
def test_frames_are_read_as_written_however_they_are_cut(data):
    chosen = data.draw(st.lists(st.sampled_from(ALL), min_size=1, max_size=5))
    wire = b"".join(frame(header, *tensors) for header, tensors in chosen)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(wire) - 1), max_size=12)))
    reader = FrameReader()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        found += reader.feed(wire[start:end])
    expected = [(h, [(t.name, t.datatype, t.shape, bytes(t.data)) for t in ts]) for h, ts in chosen]
    assert seen(found) == expected


def test_a_greeting_from_before_streams_is_still_read():
    """Fields at the end have defaults, and what is beyond the last known one is passed over."""
    older = [PROTOCOL_VERSION, "pod", "m", 3, "sha256:" + "0" * 64, msgspec.to_builtins(HELLO.signature), 2]
    for header in (older, [*older, 8, [[1, 0.25]], "of a later day"]):
        (found,) = FrameReader().feed(mangled(header, Kind.HELLO))
        streams, profile = (0, ()) if header is older else (8, ((1, 0.25),))
        assert found.header == msgspec.structs.replace(HELLO, streams=streams, profile=profile)


def test_one_byte_at_a_time():
    wire = b"".join(frame(header, *tensors) for header, tensors in ALL)
    reader = FrameReader()
    found = [one for byte in wire for one in reader.feed(bytes((byte,)))]
    assert [one.header for one in found] == [header for header, _ in ALL]


@pytest.mark.parametrize(("header", "tensors"), ALL, ids=[type(header).__name__ for header, _ in ALL])
def test_frames_and_their_tensors_are_aligned(header, tensors):
    wire = frame(header, *tensors)
    assert len(wire) % 8 == 0
    assert int.from_bytes(wire[:4], "little") == len(wire)
    position = 8 + int.from_bytes(wire[5:8], "little")
    for one in tensors:
        position += -position % 8
        assert wire[position : position + len(one.data)] == bytes(one.data)
        position += len(one.data)


def test_the_layout_is_as_documented():
    """Byte by byte: length, kind, length of the header, header, padding."""
    assert frame(Cancel(5)) == b"\x10\x00\x00\x00" + b"\x06" + b"\x02\x00\x00" + b"\x91\x05" + bytes(6)


def test_a_tensor_may_be_written_in_pieces():
    whole = tensor([1.0, 2.0, 3.0], shape=(3,))
    pieces = [whole.data[:4], whole.data[4:]]
    assert b"".join(write_frame(Run(1, heads(whole)), pieces)) == frame(Run(1, heads(whole)), whole)


def test_a_tensor_that_is_not_all_there_is_not_written():
    whole = tensor([1.0, 2.0])
    with pytest.raises(FrameError, match="tensor 'x': expected 8 bytes, got 4"):
        write_frame(Run(1, heads(whole)), [whole.data[:4]])


@UNHURRIED
@given(st.binary(max_size=200))
def test_noise_is_refused_or_waited_for_and_never_anything_else(noise):
    with contextlib.suppress(FrameError):
        FrameReader().feed(noise)


@UNHURRIED
@given(st.data())
def test_a_frame_with_one_byte_changed_is_read_or_refused_and_never_anything_else(data):
    header, tensors = data.draw(st.sampled_from(ALL))
    wire = bytearray(frame(header, *tensors))
    wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FrameError):
        FrameReader().feed(bytes(wire))


def mangled(header: list, kind: Kind, data: bytes = b"") -> bytes:
    encoded = msgspec.msgpack.encode(header)
    body = encoded + bytes(-len(encoded) % 8) + data
    total = 8 + len(body)
    return total.to_bytes(4, "little") + bytes((kind,)) + len(encoded).to_bytes(3, "little") + body


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        ((7).to_bytes(4, "little") + bytes(4), "expected a frame of 8 to"),
        ((1 << 31).to_bytes(4, "little") + bytes(4), "expected a frame of 8 to"),
        ((12).to_bytes(4, "little") + bytes(8), "a multiple of 8, got 12"),
        ((8).to_bytes(4, "little") + b"\x0c\x00\x00\x00", "expected a frame of kind 1 to 11, got 12"),
        ((8).to_bytes(4, "little") + b"\x06\xff\x00\x00", "expected a header of at most 0 bytes, got 255"),
        (mangled(["five"], Kind.CANCEL), "expected the header of CANCEL"),
        (mangled([1, [["x", "FP32", [2], -8]]], Kind.RUN), "tensor 'x': expected -8 bytes"),
        (mangled([1, [["x", "FP32", [2], 800]]], Kind.RUN), "tensor 'x': expected 800 bytes, the frame has 0"),
        (mangled([1, [["x", "FP32", [3], 8]]], Kind.RUN, bytes(8)), "expected 12 bytes for FP32 of shape [3], got 8"),
        (mangled([1, [["x", "FP32", [-2, -1], 8]]], Kind.RUN, bytes(8)), "a shape without negative lengths"),
        (mangled([1, [["x", "FP33", [2], 8]]], Kind.RUN, bytes(8)), "expected one of BOOL, UINT8"),
        (mangled([1, []], Kind.RUN, bytes(8)), "expected the frame to end after its tensors"),
        (mangled([1, [["x", "BYTES", [1], 8]]], Kind.RUN, b"\xff" * 8), "expected BYTES elements"),
    ],
)
def test_what_breaks_the_protocol_is_named(wire, message):
    with pytest.raises(FrameError) as caught:
        FrameReader().feed(wire)
    assert message in str(caught.value)


def test_a_promised_length_holds_no_memory():
    """A gigabyte announced and eight bytes sent is eight bytes held."""
    reader = FrameReader()
    assert reader.feed((1 << 30).to_bytes(4, "little") + bytes(4)) == []
    assert reader._held == 8


def test_a_limit_of_ones_own_is_kept():
    with pytest.raises(FrameError, match="expected a frame of 8 to 16 bytes"):
        FrameReader(frame_bytes_max=16).feed(frame(HELLO))

"""Fuzzing that is led by coverage: `coverage_guided.py TARGET FOLDER [libFuzzer's options]`. Started by its test.

TARGET is a name of `TARGETS`, or `all`. A target is a function of bytes that must only do what its contract says; the folder gets examples to begin with, which
libFuzzer then changes so that they reach other lines of the code under test. It runs as a process of its own, since it
never returns, and changes modules as they are imported.
"""

import asyncio
import contextlib
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mizzen.serving"]):
    from google.protobuf.message import DecodeError
    from tests.serving.test_llhttp import CHUNKED, Front, request

    from mizzen.serving.frames import FrameError, FrameReader, Run, TensorHead, write_frame
    from mizzen.serving.oip.expected import BadRequestError
    from mizzen.serving.oip.messages import message
    from mizzen.serving.oip.protobuf import MessageDecoder
    from mizzen.serving.oip.request import RequestDecoder
    from mizzen.serving.rows import RowsCodec
    from mizzen.serving.tensors import Signature, TensorSpec

MIXED = Signature(
    (TensorSpec("x", "FP32", (-1, 2)), TensorSpec("word", "BYTES", (-1, 1)), TensorSpec("n", "INT8", (-1, -1))),
    (TensorSpec("y", "FP32", (-1, 2)),),
)
DECODER = RequestDecoder(MIXED)
MESSAGES = MessageDecoder(DECODER.expected)
ROWS = RowsCodec("m", "1", MIXED)
INFER_REQUEST = message("ModelInferRequest")
INPUTS = [
    {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, None]},
    {"name": "word", "shape": [1, 1], "datatype": "BYTES", "data": ["a"]},
    {"name": "n", "shape": [1, 3], "datatype": "INT8", "data": [[1, -2, 3]]},
]


def check(found) -> None:
    """What was taken fits together."""
    assert found.rows >= 1
    for tensor in found.inputs:
        assert tensor.shape[0] == found.rows


def json_request(data: bytes) -> None:
    with contextlib.suppress(BadRequestError):
        check(DECODER.decode(data, None))


def binary_request(data: bytes) -> None:
    """The first two bytes say how much of the rest is JSON."""
    if len(data) >= 2:
        with contextlib.suppress(BadRequestError):
            check(DECODER.decode(data[2:], int.from_bytes(data[:2], "little", signed=True)))


def rows_request(data: bytes) -> None:
    with contextlib.suppress(BadRequestError):
        check(ROWS.decode(data))


def grpc_message(data: bytes) -> None:
    with contextlib.suppress(DecodeError, BadRequestError):
        check(MESSAGES.decode(INFER_REQUEST.FromString(data)))


def frames(data: bytes) -> None:
    """However they are cut, they are the same."""
    whole, cut = FrameReader(1 << 16), FrameReader(1 << 16)
    with contextlib.suppress(FrameError):
        found = whole.feed(data)
        half = len(data) // 2
        assert [frame.header for frame in found] == [
            frame.header for part in (data[:half], data[half:]) for frame in cut.feed(part)
        ]


async def _connection(front: Front, data: bytes) -> None:
    wire = front.wire()
    wire.send(data)
    for _ in range(4):
        await asyncio.sleep(0)
    for status, _, answer in wire.answers() if b"HEAD" not in data else []:
        assert status < 500 or status == 503, answer
    if not wire.closed:
        wire.close()
    assert front.server.bytes_held == 0
    other = front.wire()
    other.send(request(1.0))
    for _ in range(4):
        await asyncio.sleep(0)
    assert other.statuses() == [200]
    other.close()


def _http() -> Callable[[bytes], None]:
    loop = asyncio.new_event_loop()

    async def front() -> Front:
        return Front()

    made = loop.run_until_complete(front())
    return lambda data: loop.run_until_complete(_connection(made, data))


def _binary_example() -> bytes:
    inputs = [dict(one) for one in INPUTS]
    inputs[0] = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    return struct.pack("<h", len(head)) + head + bytes(8)


def _message_example() -> bytes:
    made = INFER_REQUEST(model_name="m", raw_input_contents=[bytes(8), struct.pack("<I", 1) + b"a", b"\1\2\3"], id="7")
    for one in INPUTS:
        made.inputs.add(name=one["name"], datatype=one["datatype"], shape=one["shape"])
    return made.SerializeToString()


def _frame_example() -> bytes:
    head = TensorHead("x", "FP32", (1, 2), 8)
    return b"".join(bytes(part) for part in write_frame(Run(7, (head,)), [bytes(8)]))


TARGETS: dict[str, tuple[Callable[[], Callable[[bytes], None]], list[bytes]]] = {
    "json": (lambda: json_request, [json.dumps({"inputs": INPUTS, "outputs": [{"name": "y"}], "id": "7"}).encode()]),
    "binary": (lambda: binary_request, [_binary_example()]),
    "rows": (lambda: rows_request, [json.dumps({"instances": [{"x": [1, 2], "word": "a", "n": [1]}]}).encode()]),
    "grpc": (lambda: grpc_message, [_message_example()]),
    "frames": (lambda: frames, [_frame_example(), _frame_example() * 2]),
    "http": (_http, [request(2.0), request(2.0) * 2, CHUNKED]),
}


def _all() -> tuple[Callable[[bytes], None], list[bytes]]:
    """All targets in one: the first byte says which."""
    made = [make() for make, _ in TARGETS.values()]
    examples = [bytes([number]) + one for number, (_, some) in enumerate(TARGETS.values()) for one in some]
    return lambda data: made[data[0] % len(made)](data[1:]) if data else None, examples


TOKENS = (
    '"inputs"', '"outputs"', '"instances"', '"name"', '"shape"', '"datatype"', '"data"', '"parameters"', '"id"', '"x"', '"word"',
    '"n"', '"FP32"', '"BYTES"', '"INT8"', '"binary_data_size"', '"binary_data_output"', "true", "null", "[[", "]]", "{", "}",
    ",", ":", "1e39", "-1", "128", "4294967296", "NaN", r"\ud800", "content-length: ", "transfer-encoding: chunked", "POST ",
    "GET ", " HTTP/1.1", "expect: 100-continue",
)  # fmt: skip
"""What a change of single bytes would not find."""


def dictionary() -> str:
    """The tokens as libFuzzer reads them."""
    escaped = (token.replace("\\", r"\x5c").replace('"', r"\x22") for token in (*TOKENS, ""))
    return "".join(f'"{token}"\n' for token in escaped if token) + r'"\x0d\x0a"' + "\n"


def main() -> None:
    name, folder, *options = sys.argv[1:]
    if name == "all":
        target, examples = _all()
    else:
        make, examples = TARGETS[name]
        target = make()
    for number, example in enumerate(examples):
        (Path(folder) / f"{number}").write_bytes(example)
    words = Path(folder).with_suffix(".dictionary")
    words.write_text(dictionary())
    atheris.Setup([sys.argv[0], folder, f"-dict={words}", *options], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

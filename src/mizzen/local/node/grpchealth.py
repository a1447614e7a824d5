"""One question of the gRPC health protocol, `grpc.health.v1.Health/Check`: just enough HTTP/2 to ask it.

A probe sends one request of known form and needs one number of the answer, so the frames are written by hand
(RFC 9113): the connection's preface, one HEADERS frame whose fields are literals (RFC 7541, 6.2.2), one DATA frame. Of
what comes back, DATA of our stream is kept; header blocks are not decoded, because an answer without data is a failure
whatever they say.
"""

import asyncio
import struct

from mizzen.version import __version__

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK, _PADDED = 0x1, 0x4, 0x1, 0x8
_STREAM = 1
_FRAME_BYTES_MAX = 16384
_SERVING = 1
STATUS = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


class GrpcHealthError(ValueError):
    """The answer is not one of the health protocol."""


async def check(host: str, port: int, service: str) -> str:
    """`SERVING`, or another word of the protocol. Raises `OSError`, `ValueError`."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        fields = [
            (":method", "POST"), (":scheme", "http"), (":path", "/grpc.health.v1.Health/Check"),
            (":authority", f"{host}:{port}"), ("te", "trailers"), ("content-type", "application/grpc"),
            ("user-agent", f"kube-probe/mizzen-{__version__}"),
        ]  # fmt: skip
        headers = b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)
        writer.write(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, b"")
            + _frame(_HEADERS, _END_HEADERS, _STREAM, headers)
            + _frame(_DATA, _END_STREAM, _STREAM, _message(service))
        )
        return STATUS.get(_status_of(await _data(reader, writer)), "UNKNOWN")
    finally:
        writer.close()


def _text(text: str) -> bytes:
    """A string literal without Huffman coding; all of ours are shorter than 2 ** 14."""
    data = text.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest = len(data) - 127
    return bytes([127, *((rest & 127 | 128, rest >> 7) if rest > 127 else (rest,))]) + data


def _message(service: str) -> bytes:
    """`HealthCheckRequest{service}` in gRPC's framing: not compressed, length, protobuf."""
    name = service.encode()
    request = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\x00" + struct.pack(">I", len(request)) + request


def _varint(number: int) -> bytes:
    found = b""
    while number > 127:
        found += bytes([number & 127 | 128])
        number >>= 7
    return found + bytes([number])


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


async def _data(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The data of our stream, to its end."""
    data = b""
    while True:
        head = await reader.readexactly(9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        stream = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
        if length > _FRAME_BYTES_MAX:
            raise GrpcHealthError("the answer is no HTTP/2")
        payload = await reader.readexactly(length)
        if kind in {_SETTINGS, _PING} and not flags & _ACK:
            writer.write(_frame(kind, _ACK, 0, b"" if kind == _SETTINGS else payload))
        elif kind == _GOAWAY or (kind == _RST_STREAM and stream == _STREAM):
            raise GrpcHealthError("the server ended the connection without an answer")
        elif kind in {_DATA, _HEADERS} and stream == _STREAM:
            if kind == _DATA:
                data += payload[1 : length - payload[0]] if flags & _PADDED else payload
            if flags & _END_STREAM:
                return data


def _status_of(data: bytes) -> int:
    """Field 1 of the `HealthCheckResponse`; a message without it has its default, 0."""
    if len(data) < 5 or data[0] != 0:
        raise GrpcHealthError("the server does not answer grpc.health.v1.Health/Check")
    message = data[5:]
    return message[1] if len(message) >= 2 and message[0] == 0x08 else 0

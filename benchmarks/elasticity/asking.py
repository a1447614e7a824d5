"""Requests to an endpoint: one at a time, or so many a second on connections of their own, each answer looked at."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Self

CONNECTIONS = 40
TIMEOUT_S = 35.0


class Connection:
    """One HTTP/1.1 connection that is kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, endpoint: str, body: bytes) -> tuple[int, bytes]:
        """(status, body). Raises `OSError`, `TimeoutError`."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        head = f"POST /v2/models/{endpoint}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        async with asyncio.timeout(TIMEOUT_S):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            length = next(int(line[15:]) for line in lines if line.lower().startswith("content-length:"))
            return int(lines[0].split()[1]), await reader.readexactly(length)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def timed(port: int, endpoint: str, body: bytes) -> float:
    """Seconds until one request is answered, from before its connection. Raises `RuntimeError` where it is not."""
    connection = Connection(port)
    began = time.perf_counter()
    try:
        status, said = await connection.ask(endpoint, body)
    finally:
        connection.close()
    if status != 200:
        raise RuntimeError(f"expected an answer, got {status} {said[:300]!r}")
    return time.perf_counter() - began


@dataclass
class Load:
    """So many requests a second, evenly over `CONNECTIONS`; a connection that waits for its answer sends late."""

    port: int
    endpoint: str
    body: bytes
    rate_per_s: float
    answered: int = 0
    failed: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        connection = Connection(self.port)
        _, self._expected = await connection.ask(self.endpoint, self.body)
        connection.close()
        self._enough = asyncio.Event()
        self._tasks = [asyncio.create_task(self._run(number)) for number in range(CONNECTIONS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._enough.set()
        await asyncio.gather(*self._tasks)

    async def _run(self, number: int) -> None:
        connection, period_s = Connection(self.port), CONNECTIONS / self.rate_per_s
        due = time.perf_counter() + period_s * number / CONNECTIONS
        while not self._enough.is_set():
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            due = max(due + period_s, time.perf_counter() - 1.0)
            began = time.perf_counter()
            try:
                status, said = await connection.ask(self.endpoint, self.body)
                problem = (
                    "" if status == 200 and _outputs(said) == _outputs(self._expected) else f"{status} {said[:200]!r}"
                )
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                problem = f"{type(error).__name__}: {error}"
                connection.close()
            self.latencies_s.append(time.perf_counter() - began)
            self.answered += 1
            if problem:
                self.failed.append(problem)
        connection.close()


def _outputs(body: bytes) -> bytes:
    """The answer without what differs between requests."""
    return body[body.find(b'"outputs"') :]

"""The access log: a JSON line for each inference request, written by a thread so that no request waits for a disk.

    {"time": "…", "namespace": "…", "endpoint": "…", "path": "…", "status": 200, "outcome": "ok", "rows": 1,
     "total_ms": 1.2, "queue_ms": 0.3, "tenant": "…", "unit": "…", "id": "…", "trace_id": "…"}

What is not known is left out. Where lines come faster than they can be written they are dropped, and a line says how
many.
"""

import queue
import sys
import threading

import msgspec

LINES_MAX = 65536


class Line(msgspec.Struct, omit_defaults=True):
    """One request."""

    time: str
    namespace: str
    endpoint: str
    path: str
    status: int
    outcome: str
    total_ms: float
    queue_ms: float | None = None
    rows: int | None = None
    id: str | None = None
    tenant: str | None = None
    unit: str | None = None
    trace_id: str | None = None


_encode = msgspec.json.Encoder().encode


class AccessLog:
    """Lines to a file; `-` is standard output."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lines: queue.Queue[bytes | None] = queue.Queue(LINES_MAX)
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()

    def write(self, line: Line) -> None:
        """Never waits."""
        try:
            self._lines.put_nowait(_encode(line) + b"\n")
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Writes what is left."""
        self._lines.put(None)
        self._thread.join()

    def _run(self) -> None:
        with open(sys.stdout.fileno() if self._path == "-" else self._path, "ab", closefd=self._path != "-") as file:
            while (first := self._lines.get()) is not None:
                lines, last = [first], False
                while not self._lines.empty():
                    line = self._lines.get()
                    if line is None:
                        last = True
                        break
                    lines.append(line)
                if self._dropped:
                    lines.append(b'{"dropped":%d}\n' % self._dropped)
                    self._dropped = 0
                file.write(b"".join(lines))
                file.flush()
                if last:
                    break

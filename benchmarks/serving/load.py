"""The instruments: wrk and h2load for closed loops, and our own `open_loop.c` for a constant rate."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.asking import Ask, framed

HERE = Path(__file__).parent
WARM_S = 0.5
CONNECTIONS_OPEN = 1024
_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Measured:
    """What one window showed."""

    requests_per_s: float
    """Answered well."""
    latency_ms_p50: float
    latency_ms_p99: float
    errors: int
    """Refused, failed, broken or never answered."""


@dataclass(frozen=True)
class MeasuredOpen(Measured):
    """The same of a constant rate."""

    in_time_per_s: float
    """Answered well before the deadline, counted from when they were due."""
    refused: int
    """Of the errors: answered with 429, 503 or 504."""
    not_sent: int
    """Of the errors: due when all connections waited for answers."""


class MissingToolError(Exception):
    """An instrument is not installed."""


def _need(tool: str, package: str) -> None:
    if shutil.which(tool) is None:
        raise MissingToolError(f"{tool} is not installed (Debian: apt install {package})")


def wrk(ask: Ask, port: int, connections: int, seconds: float, folder: Path) -> Measured:
    """A closed loop over HTTP/1.1."""
    _need("wrk", "wrk")
    (folder / "body").write_bytes(ask.body)
    headers = "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in ask.headers.items())
    script = folder / "ask.lua"
    script.write_text(f'wrk.method = "POST"\nwrk.body = io.open("{folder / "body"}", "rb"):read("*a")\n{headers}')
    url = f"http://127.0.0.1:{port}{ask.path}"

    def run(for_s: float) -> str:
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{for_s:g}s",
            "--latency",
            "--timeout",
            "10s",
            "-s",
            str(script),
        ]
        return subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout

    run(max(1, round(WARM_S)))  # wrk counts whole seconds
    said = run(max(1, round(seconds)))
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", said)
    total = re.search(r"(\d+) requests in", said)
    assert rate is not None, said
    assert total is not None, said
    bad = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", said)))
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    broken = sum(map(int, sockets.groups())) if sockets is not None else 0
    good = 1.0 - bad / max(1, int(total[1]))
    return Measured(float(rate[1]) * good, _percentile_ms(said, 50), _percentile_ms(said, 99), bad + broken)


def _percentile_ms(said: str, percent: int) -> float:
    found = re.search(rf"{percent}%\s+([0-9.]+)(us|ms|s)\b", said)
    assert found is not None, said
    return float(found[1]) * _MS[found[2]]


def h2load(ask: Ask, port: int, connections: int, seconds: float, folder: Path, answer_size: int) -> Measured:
    """A closed loop over gRPC. Answers without data (that is, with an error in their trailers) are found by their size."""
    _need("h2load", "nghttp2-client")
    (folder / "message").write_bytes(framed(ask.body))
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    headers = {"content-type": "application/grpc", "te": "trailers", **ask.headers}
    command = [
        "h2load", "-t1", f"-c{connections}", "-m1", f"-D{max(1, round(seconds))}", "--warm-up-time=1",
        f"--log-file={log}", "-d", str(folder / "message"),
        *[part for name, value in headers.items() for part in ("-H", f"{name}: {value}")],
        f"http://127.0.0.1:{port}{ask.path}",
    ]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    done = re.search(r"(\d+) done, (\d+) succeeded", said)
    rate = re.search(r"finished in [0-9.]+m?s, ([0-9.]+) req/s", said)
    data = re.search(r"\((\d+)\) data", said)
    assert done is not None and rate is not None and data is not None, said  # noqa: PT018
    count, succeeded = int(done[1]), int(done[2])
    with_data = min(count, round(int(data[1]) / (answer_size + 5)))
    errors = count - succeeded + (count - with_data if with_data < 0.99 * count else 0)
    latencies = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines()) or [0]
    p50, p99 = (latencies[round(q * (len(latencies) - 1))] / 1e3 for q in (0.50, 0.99))
    return Measured(float(rate[1]) * (1 - errors / max(1, count)), p50, p99, errors)


def open_loop(ask: Ask, port: int, rate: float, seconds: float, folder: Path, deadline_ms: float) -> MeasuredOpen:
    """A constant rate over HTTP/1.1."""
    (folder / "request").write_bytes(ask.http_bytes)
    command = [
        str(_compiled()), str(port), f"{rate:.3f}", f"{seconds:g}", str(CONNECTIONS_OPEN), f"{deadline_ms:g}",
        str(folder / "request"),
    ]  # fmt: skip
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return MeasuredOpen(
        told["answered"] / seconds, told["latency_ms_p50"], told["latency_ms_p99"], told["due"] - told["answered"],
        told["in_time"] / seconds, told["refused"], told["not_sent"],
    )  # fmt: skip


def _compiled() -> Path:
    """The generator, compiled where it is not yet or has changed."""
    source, program = HERE / "open_loop.c", HERE.parents[1] / ".peers" / "open_loop"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        _need("cc", "gcc")
        program.parent.mkdir(exist_ok=True)
        subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-o", str(program), str(source)], check=True)
    return program

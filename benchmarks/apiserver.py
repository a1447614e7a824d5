"""The embedded API server by itself: creates, gets, watch fan-out, a long list, and its memory.

One client process speaks HTTP/1.1 over TLS on 32 connections and does as little as it can, so that the server is what is
measured; both share the machine. With `KUBE_PEER=FILE`, the kubeconfig of a kube-apiserver, the same requests go to that
too, in the same run.
"""

import asyncio
import base64
import json
import os
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import psutil
import yaml

import mizzen

CONNECTIONS = 32
CREATES, GETS, LISTED, WATCHES, CHANGES = 3000, 10_000, 10_000, 100, 200
NAMESPACE = "bench"
MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
Row = dict[str, Any]


def run() -> list[Row]:
    """The rows."""
    rows = []
    with _Server() as server:
        rows += asyncio.run(_measure(_Target(server.kubeconfig, "mizzen", mizzen.__version__), server.memory_mib))
    if (peer := os.environ.get("KUBE_PEER")) is not None:
        rows += asyncio.run(_measure(_Target(Path(peer), "kube-apiserver", ""), None))
    return rows


class _Server:
    """An API server in a process and a home of its own."""

    def __enter__(self) -> Self:
        self._home = Path(tempfile.mkdtemp(prefix="mzb-"))
        command = [sys.executable, "-m", "mizzen.local.apiserver", "--home", str(self._home), "--port", "0"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        self.kubeconfig = self._home / "kubeconfig"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()
        shutil.rmtree(self._home, ignore_errors=True)

    def memory_mib(self) -> float:
        return float(psutil.Process(self._process.pid).memory_info().rss) / 2**20


class _Target:
    """Where requests go, and the bytes they begin with."""

    def __init__(self, kubeconfig: Path, system: str, version: str) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        host, port = cluster["server"].removeprefix("https://").split(":")
        self.host, self.port, self.system, self.version = host, int(port), system, version
        self.tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        self.head = "HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench/1\r\n"
        if "token" in user:
            self.head += f"Authorization: Bearer {user['token']}\r\n"
        else:
            with tempfile.NamedTemporaryFile() as file:
                file.write(base64.b64decode(user["client-certificate-data"]))
                file.write(base64.b64decode(user["client-key-data"]))
                file.flush()
                self.tls.load_cert_chain(file.name)

    def row(self, what: str, unit: str, value: float, conditions: str) -> Row:
        return {
            "system": self.system,
            "version": self.version,
            "what": what,
            "unit": unit,
            "value": value,
            "conditions": conditions,
        }


class _Connection:
    """One request at a time."""

    def __init__(self, target: _Target) -> None:
        self._target = target

    async def open(self) -> Self:
        target = self._target
        self.reader, self._writer = await asyncio.open_connection(
            target.host, target.port, ssl=target.tls, limit=1 << 20
        )
        return self

    def send(self, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> None:
        head = f"{method} {path} {self._target.head}"
        if body:
            head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(f"{head}\r\n".encode() + body)

    async def call(self, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> int:
        """Sends, reads the whole answer, and gives its length."""
        self.send(method, path, body, content_type)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 2"):
            raise RuntimeError(f"{method} {path}: {head.splitlines()[0].decode()}")
        if b"content-length:" in head:
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            await self.reader.readexactly(length)
            return length
        total = 0
        while length := int(await self.reader.readline(), 16):
            await self.reader.readexactly(length + 2)
            total += length
        await self.reader.readline()
        return total

    def close(self) -> None:
        self._writer.close()


async def _measure(target: _Target, memory_mib: Callable[[], float] | None) -> list[Row]:
    first = await _Connection(target).open()
    await first.call("POST", "/api/v1/namespaces", _json({"metadata": {"name": NAMESPACE}}))
    await _wait_for(first, f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default")
    rows = [
        await _rate(target, "ConfigMaps created", CREATES, lambda c, i: c.call("POST", MAPS, _config_map(f"a{i}"))),
        await _rate(target, "Pods created", CREATES, lambda c, i: c.call("POST", PODS, _pod(f"p{i}"))),
        await _rate(target, "objects read", GETS, lambda c, i: c.call("GET", f"{PODS}/p{i % CREATES}")),
    ]
    rows += await _fan_out(target, first)
    more = max(0, LISTED - CREATES)
    await _rate(target, "", more, lambda c, i: c.call("POST", PODS, _pod(f"q{i}")))
    rows += await _list(target, first, memory_mib)
    first.close()
    return rows


async def _wait_for(connection: _Connection, path: str) -> None:
    for _ in range(100):
        try:
            await connection.call("GET", path)
        except RuntimeError:
            connection.close()
            await connection.open()
            await asyncio.sleep(0.1)
        else:
            return


async def _rate(target: _Target, what: str, count: int, request: Callable[[_Connection, int], Awaitable[int]]) -> Row:
    """How many requests a second on all connections together."""
    connections = [await _Connection(target).open() for _ in range(CONNECTIONS)]
    latencies_s: list[float] = []
    todo = iter(range(count))

    async def work(connection: _Connection) -> None:
        for index in todo:
            started = time.perf_counter()
            await request(connection, index)
            latencies_s.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*map(work, connections))
    elapsed_s = time.perf_counter() - started
    for connection in connections:
        connection.close()
    if not what:
        return {}
    p99 = statistics.quantiles(latencies_s, n=100)[98] * 1000
    p50 = statistics.median(latencies_s) * 1000
    return target.row(
        what, "1/s", count / elapsed_s, f"{count} on {CONNECTIONS} connections, p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    )


async def _fan_out(target: _Target, writer: _Connection) -> list[Row]:
    """One writer, many watches of the same resource: events delivered, and how long one takes to reach the last."""
    await writer.call("POST", MAPS, _config_map("watched"))
    watches = [await _Connection(target).open() for _ in range(WATCHES)]
    path = f"{MAPS}?watch=true&fieldSelector=metadata.name%3Dwatched"
    for watch in watches:
        watch.send("GET", path)
        await watch.reader.readuntil(b"\r\n\r\n")
        await watch.reader.readuntil(b"}\n")
    delays_s = []
    for index in range(30):
        started = time.perf_counter()
        await writer.call(
            "PATCH", f"{MAPS}/watched", _json({"data": {"i": f"a{index}"}}), "application/merge-patch+json"
        )
        await asyncio.gather(*(watch.reader.readuntil(b"}\n") for watch in watches))
        delays_s.append(time.perf_counter() - started)

    async def drain(watch: _Connection) -> None:
        for _ in range(CHANGES):
            await watch.reader.readuntil(b"}\n")

    async def change() -> None:
        for index in range(CHANGES):
            body = _json({"data": {"i": f"b{index}"}})
            await writer.call("PATCH", f"{MAPS}/watched", body, "application/merge-patch+json")

    started = time.perf_counter()
    await asyncio.gather(change(), *map(drain, watches))
    elapsed_s = time.perf_counter() - started
    for watch in watches:
        watch.close()
    conditions = f"{WATCHES} watches of one resource"
    return [
        target.row("watch events delivered", "1/s", CHANGES * WATCHES / elapsed_s, f"{conditions}, one writer"),
        target.row(
            "a change to the last watch", "ms", statistics.median(delays_s) * 1000, f"{conditions}, median of 30"
        ),
    ]


async def _list(target: _Target, connection: _Connection, memory_mib: Callable[[], float] | None) -> list[Row]:
    before = memory_mib() if memory_mib else 0.0
    seconds, size = [], 0
    for _ in range(5):
        started = time.perf_counter()
        size = await connection.call("GET", PODS)
        seconds.append(time.perf_counter() - started)
    conditions = f"{LISTED} Pods, {size / 2**20:.1f} MiB of JSON"
    rows = [target.row("all Pods listed", "s", statistics.median(seconds), f"{conditions}, median of 5")]
    if memory_mib is not None:
        rows.append(target.row("memory with them", "MiB", before, f"resident, {conditions}"))
        rows.append(target.row("memory after listing them", "MiB", memory_mib(), f"resident, {conditions}"))
    return rows


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _config_map(name: str) -> bytes:
    return _json({"metadata": {"name": name, "labels": {"app": "bench"}}, "data": {"text": "x" * 500}})


def _pod(name: str) -> bytes:
    container = {
        "name": "main",
        "image": "bench:1",
        "env": [{"name": "A", "value": "b"}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
    }
    spec = {"schedulerName": "none", "containers": [container]}
    return _json({"metadata": {"name": name, "labels": {"app": "bench"}}, "spec": spec})

"""Vectors over HTTP, and keys to a model's matrix inside the gateway. About 40 seconds.

A gateway (one process) reads an LMDB store of 10 k entities. One client on one connection asks for random entities and
measures each answer from the first byte sent to the last received; keys, limits and metrics are on. Where wrk is installed
it asks on 32 connections, for one entity. The stage of the gateway's request path that makes a model's inputs of keys is
measured in this process.
"""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

import mizzen
from mizzen.data.features.online import catalog
from mizzen.data.features.online.catalog import entry_of
from mizzen.data.features.online.opening import open_store
from mizzen.data.features.online.store import OnlineStore
from mizzen.data.features.online.writer import OnlineWriter
from mizzen.kinds import FeatureView
from mizzen.serving import arrow
from mizzen.serving.gateway.directory import ApiKey, Lookup, View, ViewUse
from mizzen.serving.gateway.exchange import Exchange
from mizzen.serving.gateway.features.answers import ARROW_TYPE
from mizzen.serving.gateway.features.opening import Opening
from mizzen.serving.gateway.file import Contents
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.gateway.served import Served
from mizzen.serving.oip import InferenceRequest
from mizzen.serving.tensors import DATATYPES, Signature, Tensor, TensorSpec, pack_elements

ENTITIES, WIDTHS = 10_000, (50, 250)
SECONDS = 3.0
CONNECTIONS = 32
KEY = "benchmark-key"
FIRST_US = 1_767_225_600_000_000
START_TIMEOUT_S = 30.0

Row = dict[str, Any]


def run() -> list[Row]:
    """The rows."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mzb-")))
        url = f"lmdb://{folder}/online"
        with closing(open_store(url)) as store:
            for width in WIDTHS:
                _fill(store, width)
            rows = _stages(url, store)
        port = stack.enter_context(_gateway(folder, url))
        for width, size in ((50, 1), (250, 1), (50, 100)):
            rows += _http(port, width, size, "JSON")
        rows += _http(port, 50, 100, "Arrow")
        if shutil.which("wrk") is not None:
            rows.append(_many_connections(port, folder))
    return rows


def _row(what: str, value: float, unit: str, conditions: str) -> Row:
    return {"system": "mizzen", "version": mizzen.__version__, "what": what, "unit": unit, "value": value,
            "conditions": conditions}  # fmt: skip


def _quantiles(what: str, taken_us: list[float], conditions: str) -> list[Row]:
    return [
        _row(f"{what}: p{quantile}", float(np.percentile(taken_us, quantile)), "us", f"{conditions}; {len(taken_us):,}")
        for quantile in (50, 99)
    ]


def _fill(store: OnlineStore, width: int) -> None:
    names = [f"f{number}" for number in range(width)]
    spec = {"entities": ["key"], "source": {"dataset": "events"}, "eventTime": "at", "columns": names}
    metadata = {"name": f"wide-{width}", "namespace": "default"}
    view = FeatureView.model_validate({"kind": "FeatureView", "metadata": metadata, "spec": spec})
    rng = np.random.default_rng(1)
    times = pa.array(np.full(ENTITIES, FIRST_US), pa.timestamp("us", "UTC"))
    rows = pa.table({"key": np.arange(ENTITIES), "at": times, **{name: rng.normal(size=ENTITIES) for name in names}})
    entry = entry_of(view, rows.schema, {})
    catalog.begin(store, "default", entry)
    OnlineWriter(store, entry.online_view()).push(rows, as_of_us=FIRST_US + 1)
    catalog.serve(store, "default", entry)


class _Nowhere:
    """Takes exchanges whose inputs are made."""

    def onward(self, exchange: Exchange, served: Served) -> None:
        del exchange, served

    def serves(self, served: Served) -> bool:
        del served
        return True

    def refuse(self, exchange: Exchange, error: Exception) -> None:
        del exchange
        raise error


def _stages(url: str, store: OnlineStore) -> list[Row]:
    """From decoded keys to the model's FP32 matrix."""
    rows, rng = [], np.random.default_rng(2)
    opening = Opening(url, lambda: FIRST_US + 2, time.monotonic, store)
    for width, size in ((50, 1), (250, 1), (50, 100)):
        wanted = Lookup((ViewUse(f"wide-{width}"),))
        stage = opening.stage("default", wanted, Measures(), lambda *_: None)  # type: ignore[arg-type,return-value]
        names = tuple(f"f{number}" for number in range(width))
        matrix = TensorSpec("x", "FP32", (-1, width))
        bound = stage.bound(Signature((matrix,), (TensorSpec("y", "FP32", (-1,)),), names), _Nowhere())
        taken, end = [], time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            keys = pack_elements(DATATYPES["INT64"], rng.integers(0, ENTITIES, size).tolist())
            exchange = Exchange(0.0, 1.0)
            exchange.decoded = InferenceRequest([Tensor("key", "INT64", (size, 1), keys)], size)
            began = time.perf_counter_ns()
            bound.take(exchange, None)  # type: ignore[arg-type]
            taken.append((time.perf_counter_ns() - began) / 1e3)
        rows += _quantiles(f"keys to matrix, {size} x {width}", taken, "in the gateway, LMDB")
    return rows


@contextmanager
def _gateway(folder: Path, url: str) -> Iterator[int]:
    directory = folder / "directory.json"
    hashed = hashlib.sha256(KEY.encode()).hexdigest()
    views = [View("default", f"wide-{width}") for width in WIDTHS]
    contents = Contents([], [], {"default/reads": ApiKey(hashed, "default", frozenset(), None)}, views)
    directory.write_bytes(msgspec.json.encode(contents))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mizzen.serving.gateway", "--directory", str(directory), "--port", str(port),
               "--grpc", "off", "--processes", "1", "--online", url]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    try:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not _answers(port):
            if time.monotonic() > deadline_s:
                raise RuntimeError("the gateway does not answer")
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        with closing(socket.create_connection(("127.0.0.1", port), timeout=5)) as client:
            status, _ = _asked(client, *_request(50, [1], "JSON"))
    except OSError:
        return False
    return status == 200


def _request(width: int, keys: list[int], form: str) -> tuple[str, bytes, str]:
    """Path, body and type."""
    path = f"/v1/features/wide-{width}"
    if form == "Arrow":
        return path, arrow.written(pa.table({"key": keys})), ARROW_TYPE
    return path, json.dumps({"entities": {"key": keys}}).encode(), "application/json"


def _asked(client: socket.socket, path: str, body: bytes, type_: str) -> tuple[int, bytes]:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: {type_}\r\naccept: {type_}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    client.sendall(head.encode() + body)
    data = client.recv(1 << 20)
    while b"\r\n\r\n" not in data:
        data += client.recv(1 << 20)
    headers, _, rest = data.partition(b"\r\n\r\n")
    length = int(headers.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(rest) < length:
        rest += client.recv(1 << 20)
    return int(headers[9:12]), rest


def _http(port: int, width: int, size: int, form: str) -> list[Row]:
    rng, taken = np.random.default_rng(3), []
    with closing(socket.create_connection(("127.0.0.1", port))) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            request = _request(width, rng.integers(0, ENTITIES, size).tolist(), form)
            began = time.perf_counter_ns()
            status, answer = _asked(client, *request)
            taken.append((time.perf_counter_ns() - began) / 1e3)
            assert status == 200, answer
    return _quantiles(f"{form} over HTTP, {size} x {width}", taken[10:], "one connection, one gateway process")


def _many_connections(port: int, folder: Path) -> Row:
    script = folder / "ask.lua"
    path, body, _ = _request(50, [7], "JSON")
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = '{body.decode()}'\nwrk.headers['authorization'] = 'Bearer {KEY}'\n"
    )
    said = subprocess.run(
        ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{int(SECONDS)}s", "-s", str(script),
         f"http://127.0.0.1:{port}{path}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "Non-2xx" not in said, said
    rate = float(said.partition("Requests/sec:")[2].split()[0])
    return _row("JSON over HTTP, 1 x 50: requests", rate, "1/s", f"{CONNECTIONS} connections, one gateway process")


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))

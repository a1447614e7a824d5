"""Nightly batch, then cache: requests of rows that a run has predicted are answered without any worker."""

import shutil
import struct
from pathlib import Path

import pyarrow as pa
import pytest
from tests.batch.builders import Told, clock, put_model, put_table, rows_of, task
from tests.serving.builders import doubling_model
from tests.serving.cache.test_remote import redis_url
from tests.serving.stack import Stack, free_port

from mizzen.data.lake.objects import Store
from mizzen.data.pod import Failure
from mizzen.serving.batch.own_worker import OwnWorker
from mizzen.serving.batch.running import BatchPod
from mizzen.serving.gateway.directory import Caching

__all__ = ["redis_url"]
SIGNATURE = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    "columns": ["a", "b"],
}
NEEDS_REDIS = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
HELD = {"request_timeout_ms": "300"}
"""Of requests that nobody will answer: there is no worker."""


def filled(store: Store, digest: str, **changes):
    cache = {"endpoint": "m", "callers": [""], "ttlS": 600}
    return task(store, digest, SIGNATURE, namespace="default", cache=cache, **changes)


@NEEDS_REDIS
async def test_what_a_run_predicted_is_answered_from_the_cache(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By JSON and by binary tensors alike, by a gateway that has no worker; what was not predicted is not there."""
    monkeypatch.setenv("MIZZEN_CACHE_REDIS", redis_url)
    with Stack() as stack:
        store = Store.open(f"file://{stack.root}/store")
        digest = stack.put(doubling_model())
        stack.serve(digest, cache=Caching(600.0, 1 << 20, remote=True), batch_rows_max=64)
        worker = stack.worker(digest)
        stack.start_gateway(environment={"MIZZEN_CACHE_REDIS": redis_url})
        table = pa.table({"a": [float(number) for number in range(300)], "b": [0.1 * number for number in range(300)]})
        put_table(store, tmp_path, table, name="in")
        shutil.move(stack.root / "store" / "tables" / "ns", stack.root / "store" / "tables" / "default")
        with stack.client() as client:
            assert client.infer([[-7.0, 1.0]]).values == [-14.0, 2.0], "the signature is known from here on"
        stack.forget(worker)
        await BatchPod(filled(store, digest), 0, Told(), [OwnWorker], clock).run()
        with stack.client() as client:
            for number in (0, 7, 123, 299):
                row = [float(number), 0.1 * number]
                wanted = list(struct.unpack("<2f", struct.pack("<2f", *(2 * value for value in row))))
                assert client.infer([row]).values == pytest.approx(wanted)
                assert client.infer_binary([row]) == pytest.approx(wanted)
            assert client.infer([[5000.0, 1.0]], **HELD).status in {503, 504}
        found = {
            name.split('found="')[1].rstrip('"}'): int(value)
            for name, value in stack.metrics().items()
            if "cache_requests_total" in name
        }
        assert (found["remote"], found["memory"]) == (4, 4)


async def test_a_cache_that_is_away_costs_the_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows are in the result; and without the address of a cache the run says what is missing."""
    store = Store.open((tmp_path / "store").as_uri())
    digest = put_model(store, doubling_model())
    put_table(store, tmp_path, pa.table({"a": [1.0, 2.0], "b": [3.0, 4.0]}))
    monkeypatch.setenv("MIZZEN_CACHE_REDIS", f"redis://127.0.0.1:{free_port()}/0")
    cache = {"endpoint": "m", "callers": ["shop"], "ttlS": 600}
    await BatchPod(task(store, digest, SIGNATURE, cache=cache), 0, Told(), [OwnWorker], clock).run()
    assert [row["y"] for row in rows_of(store)] == [[2.0, 6.0], [4.0, 8.0]]
    for url, said in ((None, "spec.env: expected MIZZEN_CACHE_REDIS"), ("nowhere", "MIZZEN_CACHE_REDIS: ")):
        monkeypatch.delenv("MIZZEN_CACHE_REDIS", raising=False)
        if url is not None:
            monkeypatch.setenv("MIZZEN_CACHE_REDIS", url)
        with pytest.raises(Failure) as failed:
            await BatchPod(
                task(store, digest, SIGNATURE, run="other", cache=cache), 0, Told(), [OwnWorker], clock
            ).run()
        assert failed.value.reason == "NoCache"
        assert said in failed.value.message

"""Datasets, models and tasks for batch predictions, small and made on the spot."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from mizzen.data.lake.objects import Store
from mizzen.data.lake.parts import PartWriter
from mizzen.data.lake.tables import Table, TableVersion
from mizzen.kinds.batch import BatchResult, BatchShard
from mizzen.kinds.data import LoadReport
from mizzen.serving.batch.task import BatchTask

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PICKY = {
    "inputs": [{"name": "x", "datatype": "INT64", "shape": [-1]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
}
"""Of `picky_model`: rows with an x of -4 to 3 are answered."""


def clock() -> datetime:
    return NOW


def put_model(store: Store, model: bytes) -> str:
    digest = hashlib.sha256(model).hexdigest()
    store.put(f"models/sha256/{digest}.onnx", model)
    return f"sha256:{digest}"


def put_table(
    store: Store, folder: Path, rows: pa.Table, *, name: str = "in", files: int = 1, run: str = "load"
) -> TableVersion:
    """The rows as a version, in so many files."""
    parts = []
    for number in range(files):
        start, stop = rows.num_rows * number // files, rows.num_rows * (number + 1) // files
        writer = PartWriter(folder / f"{name}-{run}-{number}", rows.schema)
        writer.write(rows.slice(start, stop - start))
        parts += writer.close()
    return Table(store, "ns", name).commit(parts, rows.schema, run)


def task(store: Store, digest: str, signature: dict[str, Any], **changes: Any) -> BatchTask:
    body: dict[str, Any] = {
        "namespace": "ns",
        "name": "nightly",
        "run": "nightly-1",
        "storeUrl": store.url,
        "input": {"name": "in", "version": 1},
        "model": {"name": "m-1", "model": "m", "version": 1, "digest": digest},
        "signature": signature,
        "output": {"dataset": "out"},
        "groupRows": 100,
        "batchRows": 32,
        "background": False,
    }
    return BatchTask.model_validate(body | changes)


class Told:
    """A `BatchReporter` that remembers."""

    def __init__(self) -> None:
        self.shards: list[BatchShard] = []
        self.reports: list[LoadReport] = []
        self.results: list[BatchResult] = []

    def progress(self, shard: BatchShard) -> None:
        self.shards.append(shard)

    def loaded(self, report: LoadReport) -> None:
        self.reports.append(report)

    def finish(self, result: BatchResult) -> None:
        self.results.append(result)


def rows_of(store: Store, name: str = "out", **more: Any) -> list[dict[str, Any]]:
    return Table(store, "ns", name, **more).at().arrow().to_pylist()


def numbers(values: Iterable[int]) -> pa.Table:
    """A column `x` of those values and a column `id` that counts."""
    found = list(values)
    return pa.table({"id": pa.array(range(len(found)), pa.int64()), "x": pa.array(found, pa.int64())})

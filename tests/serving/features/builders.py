"""A gateway that looks features up: a real online store, views of it, played clients and workers."""

import asyncio
import json
import struct
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tests.features.builders import START, defined, payments, view
from tests.serving.builders import spec
from tests.serving.played import Call, PlayedLink, Stage, turn, version, worker

from mizzen.data.features.events import us_of
from mizzen.data.features.online import catalog
from mizzen.data.features.online.catalog import entry_of
from mizzen.data.features.online.opening import open_store
from mizzen.data.features.online.store import OnlineStore
from mizzen.data.features.online.writer import OnlineWriter
from mizzen.kinds import FeatureView
from mizzen.serving.gateway.directory import Endpoint, Lookup, View, ViewUse
from mizzen.serving.gateway.features.opening import Opening
from mizzen.serving.gateway.features.source import FeatureSource
from mizzen.serving.gateway.gateway import Gateway
from mizzen.serving.tensors import Signature, Tensor

__all__ = ["SPENDING", "START", "FeatureStage", "columns", "declared", "defined", "inputs_of", "matrix", "us"]
SPENDING: dict[str, Any] = {
    "columns": ["limit"],
    "aggregations": [
        {"name": "spent", "function": "sum", "column": "amount", "window": "1h"},
        {"name": "n", "function": "count", "window": "1h"},
    ],
}
COLUMNS = "card paid_at amount limit"


def us(minutes: float) -> int:
    return us_of(START) + int(minutes * 60_000_000)


def matrix(*names: str, datatype: str = "FP32") -> Signature:
    """A model of one matrix with those columns."""
    return Signature((spec("input", datatype, (-1, len(names))),), (spec("y", "FP32", (-1,)),), names)


def columns(*specs: Any) -> Signature:
    return Signature(specs, (spec("y", "FP32", (-1,)),))


def declared(name: str = "spending", **wanted: Any) -> FeatureView:
    return view(name, **(wanted or SPENDING))


class Inline(Executor):
    """No thread: what is submitted is done at once."""

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future:
        done: Future = Future()
        done.set_result(function(*arguments, **named))
        return done


async def _inline(function: Any, *arguments: Any) -> Any:
    return function(*arguments)


class FeatureStage(Stage):
    """Time is `minutes` after the start."""

    def __init__(self, folder: Path, url: str | None = None, *, audited: float = 0.0) -> None:
        """Reads of the share `audited` of entities are recorded under `rings`."""
        super().__init__()
        self.url = url or f"lmdb://{folder}/online"
        self.minutes = 0.0
        self.store = open_store(self.url)
        clock, now_us = asyncio.get_running_loop().time, lambda: us(self.minutes)
        rings = folder / "rings"
        opening = Opening(
            self.url, now_us, clock, self.store, Inline(), log_folder=rings, audited=lambda _namespace, _view: audited
        )
        self.features = FeatureSource(self.url, clock, now_us, on_thread=_inline, opening=opening)
        self.gateway = Gateway(clock, connect=self._linked, features=self.features)

    def push(self, rows: Sequence[tuple[Any, ...]], view: FeatureView | None = None, names: str = COLUMNS) -> None:
        """Rows of the view's source, known as soon as they happened."""
        table = payments(list(rows), names, limit=pa.float64(), amount=pa.float64())
        push(self.store, view if view is not None else declared(), table, us(self.minutes))

    def tell(self, view: FeatureView) -> None:
        """The directory says that this version is online."""
        self.gateway.view_changed(View("default", view.name, view.spec.digest()))

    def declare(self, model: Signature, *uses: ViewUse, name: str = "m", **more: Any) -> None:
        lookup = Lookup(uses or (ViewUse("spending"),), more.pop("columns", {}))
        made = Endpoint("default", name, anonymous=True, versions=(version(takes=model),), features=lookup, **more)
        self.gateway.endpoint_changed(made)

    def work(self, model: Signature, name: str = "m") -> PlayedLink:
        described = worker(name=name)
        self.gateway.worker_changed(described)
        link = self.links[described.uid]
        link.connect(takes=model)
        return link

    def predict(self, *rows: dict[str, Any], name: str = "m") -> Call:
        return self.call(path=f"/v1/endpoints/{name}:predict", body=json.dumps({"instances": rows}).encode())

    def _linked(self, worker: Any, owner: Any) -> "FeatureLink":
        link = self.links[worker.uid] = FeatureLink(worker, owner, self)
        return link


class FeatureLink(PlayedLink):
    """A worker that notes its inputs as they come."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.inputs: list[list[Tensor]] = []

    def run(self, batch: Any, heads: Any, data: Any) -> None:
        self.batches.append(batch)
        self.inputs.append(
            [Tensor(h.name, h.datatype, h.shape, bytes(d)) for h, d in zip(heads, _joined(heads, data), strict=True)]
        )

    def answer_rows(self) -> None:
        """0, 1, 2, … for the rows."""
        batch = self.batches[0]
        self.answer_with(Tensor("y", "FP32", (batch.rows,), struct.pack(f"<{batch.rows}f", *range(batch.rows))))


def _joined(heads: Any, data: Any) -> list[bytes]:
    whole, found = b"".join(bytes(part) for part in data), []
    for head in heads:
        found.append(whole[: head.size])
        whole = whole[head.size :]
    return found


def inputs_of(tensor: Tensor) -> np.ndarray:
    kinds = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8"}
    return np.frombuffer(tensor.data, kinds[tensor.datatype]).reshape(tensor.shape)


def push(store: OnlineStore, view: FeatureView, rows: pa.Table, now_us: int) -> None:
    """Rows of the source into the store, whose readers get that version from now on."""
    entry = entry_of(view, rows.schema, {})
    catalog.begin(store, "default", entry)
    OnlineWriter(store, entry.online_view(), "default").push(rows, as_of_us=now_us)
    catalog.serve(store, "default", entry)


__all__ += ["FeatureLink", "push", "turn"]

"""BentoML as its documentation has it: a worker process for each core, no access log. Adaptive batching for what gains by it."""

import os

import bentoml
import numpy as np
from model_session import ROWS_MAX, Model

BATCHED = {"batchable": True, "batch_dim": (0, 0), "max_batch_size": ROWS_MAX, "max_latency_ms": 30_000}


@bentoml.service(
    workers=os.cpu_count() or 1, traffic={"timeout": 30}, logging={"access": {"enabled": False}},
    metrics={"enabled": False}, http={"port": int(os.environ["PORT"]), "host": "127.0.0.1"},
)  # fmt: skip
class Service:
    """Rows as JSON."""

    def __init__(self) -> None:
        self._small, self._heavy = Model("small"), Model("heavy")

    @bentoml.api(route="/small", **BATCHED)
    def small(self, rows: np.ndarray) -> np.ndarray:
        return self._small.run(rows.astype(np.float32))[1]

    @bentoml.api(route="/heavy")
    def heavy(self, rows: np.ndarray) -> np.ndarray:
        return self._heavy.run(rows.astype(np.float32))[1]

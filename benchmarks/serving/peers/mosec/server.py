"""mosec as its documentation has it: a worker process for each core behind its Rust front, dynamic batches
where BATCHES is set. They gain throughput at many connections, and cost latency at few.
"""

import os
import sys
from typing import Any

import msgspec
import numpy as np
from model_session import BATCH_WAIT_S, NAMES, ROWS_MAX, Model
from mosec import Runtime, Server, Worker

BATCHES = bool(os.environ.get("BATCHES"))


class Rows(msgspec.Struct):
    rows: list[list[float]]


class JsonWorker(Worker):
    """JSON in and out."""

    name = ""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(self.name)
        self.decoder = msgspec.json.Decoder(Rows)

    def deserialize(self, data: bytes) -> Any:
        return np.array(self.decoder.decode(data).rows, np.float32)

    def serialize(self, data: Any) -> bytes:
        return msgspec.json.encode(data)

    def forward(self, data: Any) -> Any:
        """One request's rows, or those of a batch of requests of one row."""
        if isinstance(data, list):
            return [{"probabilities": [row]} for row in self.model.run(np.concatenate(data))[1].tolist()]
        return {"probabilities": self.model.run(data)[1].tolist()}


class Small(JsonWorker):
    name = "small"


class Heavy(JsonWorker):
    name = "heavy"


class Wide(Worker):
    """Tensors as bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model("wide")

    def deserialize(self, data: bytes) -> Any:
        return np.frombuffer(data, np.float32).reshape(-1, self.model.columns)

    def serialize(self, data: Any) -> bytes:
        return data.tobytes()

    def forward(self, data: np.ndarray) -> np.ndarray:
        return self.model.run(data)[1]


if __name__ == "__main__":
    sys.argv += ["--address", "127.0.0.1", "--port", os.environ["PORT"], "--log-level", "error"]
    sys.argv += ["--capacity", "1024", "--timeout", "30000"]
    server = Server()
    wait_ms = max(1, round(1000 * BATCH_WAIT_S))
    batched = {"max_batch_size": ROWS_MAX, "max_wait_time": wait_ms} if BATCHES else {}
    server.register_runtime(
        {
            f"/{name}": [Runtime(worker, num=os.cpu_count() or 1, **(batched if name == "small" else {}))]
            for name, worker in zip(NAMES, (Small, Heavy, Wide), strict=True)
        }
    )
    server.run()

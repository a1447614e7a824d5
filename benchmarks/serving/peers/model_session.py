"""A model as every peer runs it: ONNX Runtime, one thread for a call. Every peer's environment has only this of ours."""

import os
from pathlib import Path

import numpy as np
import onnxruntime

NAMES = ("small", "heavy", "wide")
ROWS_MAX = 64
"""Of a batch, where a peer forms batches."""
BATCH_WAIT_S = 0.001
"""How long a batch may wait for more, where a peer must be told."""


class Model:
    """`run` is what a peer calls."""

    def __init__(self, name: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = Path(os.environ["MODELS"]) / f"{name}.onnx"
        self._session = onnxruntime.InferenceSession(path.read_bytes(), options)
        self.columns: int = self._session.get_inputs()[0].shape[1]

    def run(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels (INT64, n) and probabilities (FP32, n x 2)."""
        label, probabilities = self._session.run(["label", "probabilities"], {"X": rows})
        return label, probabilities

    def run_bytes(self, body: bytes) -> bytes:
        """The same, from rows to probabilities, as they lie in memory."""
        rows = np.frombuffer(body, np.float32).reshape(-1, self.columns)
        found: bytes = self.run(rows)[1].tobytes()
        return found

"""Writes the small model that benchmarks serve: 20 features, one hidden layer of 32, two classes, 8 us of compute."""

import sys
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from sklearn.neural_network import MLPClassifier


def small_model() -> bytes:
    """The ONNX bytes; the same at each call."""
    random = np.random.default_rng(0)
    x = random.normal(size=(500, 20)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] > 0).astype(np.int64)
    model = MLPClassifier(hidden_layer_sizes=(32,), max_iter=200, random_state=0, tol=1e-2).fit(x, y)
    proto = to_onnx(model, x[:1], options={"zipmap": False}, target_opset=17)
    encoded: bytes = proto.SerializeToString()
    return encoded


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(small_model())

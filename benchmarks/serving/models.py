"""The models that are served, and what each is asked.

    small   an MLP of 20 features, 32 hidden units, two classes: some 8 us for a row
    heavy   the same face with convolutions behind it: some 5 ms of one core for a row, and as much for each further row
    wide    an MLP of 128 features, for binary tensors: asked 64 rows at once

Each gives `label` (INT64, n) and `probabilities` (FP32, n x 2) for one input `X` (FP32, n x columns). Weights are drawn
from a fixed seed and do not depend on libraries' training.
"""

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
"""Old enough for every runtime."""


@dataclass(frozen=True)
class Model:
    """A model and the rows that it is asked for."""

    name: str
    columns: int
    rows: int = 1
    convolutions: int = 0
    """Each of `CHANNELS` channels on `SIDE` x `SIDE` places, 3 x 3."""

    @property
    def question(self) -> np.ndarray:
        """What every request asks: (rows, columns), as FP32, with short decimals."""
        values = np.arange(self.rows * self.columns) % 40
        return np.round(0.1 * values - 1.0, 1).astype(np.float32).reshape(self.rows, self.columns)


SMALL = Model("small", 20)
HEAVY = Model("heavy", 20, convolutions=94)
WIDE = Model("wide", 128, rows=64)
MODELS = {model.name: model for model in (SMALL, HEAVY, WIDE)}
CHANNELS, SIDE, HIDDEN, CLASSES = 64, 14, 32, 2


class _Graph:
    """Layers put one behind the other."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.value = "X"
        self._random = np.random.default_rng(0)

    def layer(self, kind: str, shape: tuple[int, ...], **attributes: object) -> None:
        """A layer with weights of that shape, whose outputs are about as large as its inputs."""
        name = f"w{len(self.constants)}"
        inputs = np.prod(shape[1:]) if kind == "Conv" else shape[0]
        weight = (self._random.normal(size=shape) * np.sqrt(2 / inputs)).astype(np.float32)
        self.constants.append(numpy_helper.from_array(weight, name))
        self.then(kind, name, **attributes)

    def then(self, kind: str, *more: str, **attributes: object) -> None:
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.value, *more], [output], **attributes))
        self.value = output


def onnx_bytes(model: Model, remark: str = "") -> bytes:
    """The ONNX file, the same at each call. A remark makes another digest of the same model."""
    graph = _Graph()
    width = model.columns
    if model.convolutions:
        graph.constants.append(numpy_helper.from_array(np.array([-1, CHANNELS, SIDE, SIDE]), "image"))
        graph.layer("Gemm", (width, CHANNELS * SIDE * SIDE))
        graph.then("Reshape", "image")
        for _ in range(model.convolutions):
            graph.layer("Conv", (CHANNELS, CHANNELS, 3, 3), pads=[1, 1, 1, 1])
            graph.then("Relu")
        graph.then("GlobalAveragePool")
        graph.then("Flatten")
        width = CHANNELS
    graph.layer("Gemm", (width, HIDDEN))
    graph.then("Relu")
    graph.layer("Gemm", (HIDDEN, CLASSES))
    nodes = [
        *graph.nodes,
        helper.make_node("Softmax", [graph.value], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    made = helper.make_model(
        helper.make_graph(
            nodes, model.name,
            [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", model.columns])],
            [helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
             helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", CLASSES])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)], doc_string=remark,
    )  # fmt: skip
    made.ir_version = IR_VERSION
    onnx.checker.check_model(made)
    encoded: bytes = made.SerializeToString()
    return encoded


def answer(model: Model) -> np.ndarray:
    """The probabilities that every system must answer."""
    session = onnxruntime.InferenceSession(onnx_bytes(model))
    found: np.ndarray = session.run(["probabilities"], {"X": model.question})[0]
    return found

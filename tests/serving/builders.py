"""Models, signatures and tensors for tests, small and made on the spot."""

from collections.abc import Sequence

import numpy as np
import onnx
from hypothesis import HealthCheck, settings
from onnx import TensorProto, helper, numpy_helper

from mizzen.serving.tensors import DATATYPES, Signature, Tensor, TensorSpec, pack_elements, pack_strings

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For all generated cases: a busy machine is no failure."""


def spec(name: str = "x", datatype: str = "FP32", shape: Sequence[int] = (-1, 2)) -> TensorSpec:
    return TensorSpec(name, datatype, tuple(shape))


def signature(*inputs: TensorSpec, outputs: Sequence[TensorSpec] = ()) -> Signature:
    return Signature(inputs or (spec(),), tuple(outputs) or (spec("y"),))


def tensor(values: Sequence, datatype: str = "FP32", shape: Sequence[int] | None = None, name: str = "x") -> Tensor:
    if datatype == "BYTES":
        data = pack_strings([value.encode() for value in values])
    else:
        data = pack_elements(DATATYPES[datatype], values)
    return Tensor(name, datatype, tuple(shape) if shape is not None else (len(values),), data)


def _model(nodes, inputs, outputs, constants=()) -> bytes:
    graph = helper.make_graph(nodes, "test", inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _value(name: str, type_: int, shape: Sequence) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, type_, list(shape))


def doubling_model(columns: int = 2, factor: float = 2.0) -> bytes:
    """`y = factor * x`: whose row an answer is can be read from it."""
    return _model(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        [_value("x", TensorProto.FLOAT, ["n", columns])],
        [_value("y", TensorProto.FLOAT, ["n", columns])],
        [numpy_helper.from_array(np.array(factor, "f4"), "factor")],
    )


def picky_model() -> bytes:
    """`y = table[x]` for a table of four rows: a batch with any other index is refused by the runtime."""
    table = numpy_helper.from_array(np.array([10.0, 11.0, 12.0, 13.0], "f4"), "table")
    return _model(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        [_value("x", TensorProto.INT64, ["n"])],
        [_value("y", TensorProto.FLOAT, ["n"])],
        [table],
    )


def text_model() -> bytes:
    """Strings and numbers in, the same strings and the numbers' sums out: two inputs, two outputs."""
    return _model(
        [
            helper.make_node("Identity", ["word"], ["echo"]),
            helper.make_node("ReduceSum", ["x", "axis"], ["total"], keepdims=1),
        ],
        [_value("word", TensorProto.STRING, ["n", 1]), _value("x", TensorProto.DOUBLE, ["n", 3])],
        [_value("echo", TensorProto.STRING, ["n", 1]), _value("total", TensorProto.DOUBLE, ["n", 1])],
        [numpy_helper.from_array(np.array([1], "i8"), "axis")],
    )


def summing_model() -> bytes:
    """The sum of two columns."""
    return _model(
        [helper.make_node("ReduceSum", ["input", "axis"], ["sum"], keepdims=1)],
        [_value("input", TensorProto.FLOAT, ["n", 2])],
        [_value("sum", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(np.array([1], "i8"), "axis")],
    )


def endless_model() -> bytes:
    """Counts up from `x`, `rounds` times: a batch with many rounds never comes back, as a runtime that hangs."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["on_out"]), helper.make_node("Add", ["v", "one"], ["v_out"])],
        "body",
        [_value("i", TensorProto.INT64, []), _value("on", TensorProto.BOOL, []), _value("v", TensorProto.FLOAT, ["n"])],
        [_value("on_out", TensorProto.BOOL, []), _value("v_out", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(np.array(1.0, "f4"), "one")],
    )
    return _model(
        [
            helper.make_node("ReduceMax", ["rounds"], ["most"], keepdims=0),
            helper.make_node("Loop", ["most", "true", "x"], ["y"], body=body),
        ],
        [_value("x", TensorProto.FLOAT, ["n"]), _value("rounds", TensorProto.INT64, ["n"])],
        [_value("y", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(np.array(True), "true")],
    )


def whole_model() -> bytes:
    """`y = x - max(x)` over the whole input: its rows depend on each other, and its first dimension is fixed."""
    return _model(
        [
            helper.make_node("ReduceMax", ["x"], ["m"], keepdims=1),
            helper.make_node("Sub", ["x", "m"], ["y"]),
        ],
        [_value("x", TensorProto.FLOAT, [2, 2])],
        [_value("y", TensorProto.FLOAT, [2, 2])],
    )

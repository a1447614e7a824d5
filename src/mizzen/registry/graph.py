"""An ONNX graph under construction, and the names by which every model answers.

Whatever was trained, the outputs are called the same: a classifier gives `label` (shape (n,), INT64 or text) and
`probabilities` (shape (n, classes), FP32, columns in the order of the classes); a regressor gives `prediction` (shape
(n,), or (n, targets); FP64). A client need not know the library. Inputs are one matrix called `input`, or one input of
shape (n, 1) for each column under the column's name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mizzen.registry.rows import LABEL, PREDICTION, PROBABILITIES

OPSET, ML_OPSET, IR_VERSION = 18, 3, 9
"""What onnxruntime 1.17 and later read."""


_ELEMENTS = {
    "BOOL": TensorProto.BOOL, "INT64": TensorProto.INT64, "FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}  # fmt: skip


class Graph:
    """Nodes in the order in which they are computed; `prefix` keeps their names apart from those of another graph."""

    def __init__(self, prefix: str = "") -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._prefix = prefix
        self._count = 0
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def _name(self, stem: str) -> str:
        self._count += 1
        return f"{self._prefix}_{stem}_{self._count}"

    def add_input(self, name: str, datatype: str, width: int) -> str:
        """An input of shape (n, width)."""
        self._inputs.append(helper.make_tensor_value_info(name, _ELEMENTS[datatype], [None, width]))
        return name

    def add(
        self, operator: str, inputs: Sequence[str], *, output: str = "", domain: str = "", **attributes: Any
    ) -> str:
        """A node with one output; returns the output's name."""
        name = output or self._name(operator.lower())
        self.nodes.append(
            helper.make_node(operator, [*inputs], [name], name=self._name(operator), domain=domain, **attributes)
        )
        return name

    def constant(self, value: NDArray[Any]) -> str:
        """A constant; returns its name."""
        name = self._name("constant")
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def add_double(self, values: str) -> str:
        """The values as doubles."""
        return self.add("Cast", [values], to=TensorProto.DOUBLE)

    def add_codes(self, values: str, categories: Sequence[Any]) -> str:
        """The position of each value among the categories, as doubles; NaN where it is none of them."""
        text = is_text(np.asarray(categories, object)) and all(isinstance(one, str) for one in categories)
        keys = {"keys_strings": [*categories]} if text else {"keys_int64s": [int(one) for one in categories]}
        codes = [float(code) for code in range(len(categories))]
        return self.add_double(
            self.add("LabelEncoder", [values], domain="ai.onnx.ml", values_floats=codes, default_float=np.nan, **keys)
        )

    def two_columns(self, positive: str) -> str:
        """(1 - p, p) from p of shape (n, 1)."""
        negative = self.add("Sub", [self.constant(np.array(1.0)), positive])
        return self.add("Concat", [negative, positive], axis=1)

    def add_best_class(self, probabilities: str, classes: NDArray[Any], output: str) -> None:
        """The class of the largest of each row's probabilities."""
        best = self.add("ArgMax", [probabilities], axis=1, keepdims=0)
        labels = classes.astype(object) if is_text(classes) else classes.astype(np.int64)
        self.add("Gather", [self.constant(labels), best], output=output)

    def add_label_output(self, labels: str, *, text: bool) -> None:
        """The output `label`, from labels of shape (n,)."""
        self.add("Reshape", [labels, self.constant(np.array([-1], np.int64))], output=LABEL)
        element = TensorProto.STRING if text else TensorProto.INT64
        self._outputs.append(helper.make_tensor_value_info(LABEL, element, [None]))

    def add_probabilities_output(self, probabilities: str, classes: int) -> None:
        """The output `probabilities`, from values of shape (n, classes)."""
        self.add("Cast", [probabilities], to=TensorProto.FLOAT, output=PROBABILITIES)
        self._outputs.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, [None, classes]))

    def add_prediction_output(self, values: str, targets: int) -> None:
        """The output `prediction`, from values of shape (n, targets) or (n,)."""
        shape = [-1] if targets == 1 else [-1, targets]
        values = self.add("Cast", [values], to=TensorProto.DOUBLE)
        self.add("Reshape", [values, self.constant(np.array(shape, np.int64))], output=PREDICTION)
        dimensions = [None] if targets == 1 else [None, targets]
        self._outputs.append(helper.make_tensor_value_info(PREDICTION, TensorProto.DOUBLE, dimensions))

    def add_output(self, name: str, values: str, element: int, width: int) -> None:
        """An output of shape (n, width), cast to that element type."""
        self.add("Cast", [values], to=element, output=name)
        self._outputs.append(helper.make_tensor_value_info(name, element, [None, width]))

    def to_onnx(self, producer: str, domains: Mapping[str, int] | None = None) -> bytes:
        """The finished model; `domains` are the operator sets of nodes that came from elsewhere."""
        versions = {"": OPSET, "ai.onnx.ml": ML_OPSET} | dict(domains or {})
        model = helper.make_model(
            helper.make_graph(self.nodes, "model", self._inputs, self._outputs, self.initializers),
            producer_name=producer,
            opset_imports=[helper.make_opsetid(domain, version) for domain, version in versions.items()],
            ir_version=IR_VERSION,
        )
        return bytes(model.SerializeToString())


def is_text(classes: NDArray[Any]) -> bool:
    """Whether classes are named and not numbered."""
    return classes.dtype.kind in "OUST"

"""scikit-learn estimators to ONNX: trees by our own kernel, everything else by skl2onnx.

skl2onnx walks pipelines, column transformers and ensembles, and asks us for each tree model in them, because its own
converters compare thresholds in single precision or not at all (see `forests/forest.py`). It is asked to compute in
double precision, as scikit-learn does, and where one of its operators has no such form, in single precision: the caller
tries one after the other, and the check against the original decides.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from skl2onnx import convert_sklearn, update_registered_converter
from skl2onnx.common.data_types import (
    BooleanTensorType,
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
    guess_proto_type,
)
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)
from skl2onnx.operator_converters.imputer_op import convert_sklearn_imputer
from skl2onnx.shape_calculators.imputer import calculate_sklearn_imputer_output_shapes
from sklearn import ensemble, tree
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer

from mizzen.registry.errors import ConversionFailed
from mizzen.registry.forests import scikit as own_trees
from mizzen.registry.forests.forest import add_forest, add_probabilities
from mizzen.registry.forests.read import forest_of
from mizzen.registry.graph import ML_OPSET, OPSET, Graph
from mizzen.registry.originals import Original
from mizzen.registry.rows import OUTPUTS, Inputs

PRECISIONS = ("as given", "double", "single")
_TYPES = {
    "BOOL": BooleanTensorType, "INT64": Int64TensorType, "FP32": FloatTensorType, "FP64": DoubleTensorType,
    "BYTES": StringTensorType,
}  # fmt: skip


def to_onnx(original: Original, inputs: Inputs, precision: str) -> bytes:
    """The estimator as ONNX with those inputs, computing numbers in that precision.

    Raises `ConversionFailed` where skl2onnx has no converter for a part or refuses it.
    """
    inner = {tensor.name: _inner_datatype(tensor.datatype, precision) for tensor in inputs.tensors}
    initial_types = [(t.name, _TYPES[inner[t.name]]([None, t.shape[1]])) for t in inputs.tensors]
    try:
        model = convert_sklearn(
            original.model,
            initial_types=initial_types,
            options=_options(original),
            target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
            custom_conversion_functions={**dict(_converters()), SimpleImputer: _add_imputer},
            custom_shape_calculators={**dict(_shape_calculators()), SimpleImputer: _imputed_shape},
        )
    except Exception as error:  # skl2onnx raises what it likes, down to AssertionError
        text = " ".join(str(error).split())
        raise ConversionFailed(
            f"{original.source_type}: skl2onnx refuses it: {type(error).__name__}: {text[:300]}"
        ) from error
    return _finished(model, original, inputs, inner)


def _options(original: Original) -> dict[int, dict[str, bool]] | None:
    if original.classes is None:
        return None
    if original.has_probabilities:
        return {id(original.model): {"zipmap": False}}
    final = original.model
    while hasattr(final, "steps"):
        final = final.steps[-1][1]
    return {id(final): {"raw_scores": True}}  # said for its own sake: without any option, a pipeline asks for zipmap


def looks_at_columns(model: Any) -> bool:
    """Whether the estimator, or a part of it, picks columns of a data frame."""
    parts = [model, *model.get_params(deep=True).values()]
    return any(isinstance(inner, ColumnTransformer) for inner in parts)


def _inner_datatype(datatype: str, precision: str) -> str:
    if datatype in {"BYTES", "BOOL"} or precision == "as given":
        return datatype
    return "FP64" if precision == "double" else "FP32"


def _finished(model: onnx.ModelProto, original: Original, inputs: Inputs, inner: dict[str, str]) -> bytes:
    """With our names of inputs and outputs, and casts where the graph computes in another type than it is given."""
    graph = Graph(prefix="mizzen")
    renamed = {}
    for tensor in inputs.tensors:
        graph.add_input(tensor.name, tensor.datatype, tensor.shape[1])
        if inner[tensor.name] != tensor.datatype:
            to = TensorProto.DOUBLE if inner[tensor.name] == "FP64" else TensorProto.FLOAT
            renamed[tensor.name] = graph.add("Cast", [tensor.name], to=to)
    outputs = [output.name for output in model.graph.output]
    renamed |= {name: f"inner_{name}" for name in {*outputs, *OUTPUTS}}
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for initializer in model.graph.initializer:
        initializer.name = renamed.get(initializer.name, initializer.name)
    graph.nodes += model.graph.node
    graph.initializers += model.graph.initializer
    if original.classes is None:
        graph.add_prediction_output(renamed[outputs[0]], _width(model.graph.output[0]))
    else:
        text = model.graph.output[0].type.tensor_type.elem_type == TensorProto.STRING
        graph.add_label_output(renamed[outputs[0]], text=text)
        if original.has_probabilities:
            graph.add_probabilities_output(renamed[outputs[1]], len(original.classes))
    domains = {imported.domain: imported.version for imported in model.opset_import}
    return graph.to_onnx(original.source_type, domains)


def _width(output: onnx.ValueInfoProto) -> int:
    dimensions = output.type.tensor_type.shape.dim
    return dimensions[1].dim_value if len(dimensions) > 1 else 1


_Converter = Callable[[Any, Any, Any], None]


def _tree_types() -> Iterator[tuple[type, bool]]:
    """(class, whether it is a classifier) of every tree model there can be in this process."""
    for name in (*own_trees.SINGLE, *own_trees.AVERAGED, *own_trees.BOOSTED, *own_trees.HISTOGRAM):
        yield getattr(tree if name in own_trees.SINGLE else ensemble, name), name.endswith("Classifier")
    for module, prefix in (("lightgbm", "LGBM"), ("xgboost", "XGB"), ("xgboost", "XGBRF")):
        loaded = sys.modules.get(module)  # a model of a library that was not imported cannot be here
        if loaded is not None:
            yield getattr(loaded, f"{prefix}Classifier"), True
            yield getattr(loaded, f"{prefix}Regressor"), False


def _converters() -> Iterator[tuple[type, _Converter]]:
    for kind, is_classifier in _tree_types():
        yield kind, _add_classifier if is_classifier else _add_regressor
        if kind.__module__.partition(".")[0] != "sklearn":
            # Where a foreign class stands in a pipeline is known to skl2onnx only by its registry.
            shapes = (
                calculate_linear_classifier_output_shapes if is_classifier else calculate_linear_regressor_output_shapes
            )
            converter = _add_classifier if is_classifier else _add_regressor
            options = {"zipmap": [True, False, "columns"], "nocl": [True, False]} if is_classifier else None
            update_registered_converter(kind, f"Mizzen{kind.__name__}", shapes, converter, options=options)


def _shape_calculators() -> Iterator[tuple[type, Callable[[Any], None]]]:
    for kind, is_classifier in _tree_types():
        yield (
            kind,
            calculate_linear_classifier_output_shapes if is_classifier else calculate_linear_regressor_output_shapes,
        )


def _add_classifier(scope: Any, operator: Any, container: Any) -> None:
    graph = Graph(prefix=scope.get_unique_operator_name("forest"))
    model = operator.raw_operator
    probabilities = add_probabilities(graph, forest_of(model), operator.inputs[0].full_name)
    graph.add_best_class(probabilities, model.classes_, operator.outputs[0].full_name)
    output = operator.outputs[1]
    graph.add("Cast", [probabilities], to=guess_proto_type(output.type), output=output.full_name)
    _move(graph, container)


def _add_regressor(scope: Any, operator: Any, container: Any) -> None:
    graph = Graph(prefix=scope.get_unique_operator_name("forest"))
    values = add_forest(graph, forest_of(operator.raw_operator), operator.inputs[0].full_name)
    output = operator.outputs[0]
    graph.add("Cast", [values], to=guess_proto_type(output.type), output=output.full_name)
    _move(graph, container)


def _add_imputer(scope: Any, operator: Any, container: Any) -> None:
    """`SimpleImputer` of NaN by numbers, in any precision: the runtime's own operator has none for doubles."""
    if not _fills_nan(operator.raw_operator):
        convert_sklearn_imputer(scope, operator, container)
        return
    fill = np.asarray(operator.raw_operator.statistics_, np.float64)
    graph = Graph(prefix=scope.get_unique_operator_name("imputer"))
    output = operator.outputs[0]
    columns = [graph.add("Cast", [column.full_name], to=guess_proto_type(output.type)) for column in operator.inputs]
    values = columns[0] if len(columns) == 1 else graph.add("Concat", columns, axis=1)
    missing = graph.add("IsNaN", [values])
    constant = graph.add("Cast", [graph.constant(fill)], to=guess_proto_type(output.type))
    graph.add("Where", [missing, constant, values], output=output.full_name)
    _move(graph, container)


def _fills_nan(imputer: Any) -> bool:
    fill = np.asarray(imputer.statistics_)
    nan = isinstance(imputer.missing_values, float) and np.isnan(imputer.missing_values)
    return bool(nan and not imputer.add_indicator and fill.dtype.kind in "iuf" and np.isfinite(fill).all())


def _imputed_shape(operator: Any) -> None:
    """The columns of all inputs side by side, as doubles where any of them is wider than single precision."""
    if not _fills_nan(operator.raw_operator):
        calculate_sklearn_imputer_output_shapes(operator)
        return
    width = len(operator.raw_operator.statistics_)
    double = any(isinstance(column.type, DoubleTensorType | Int64TensorType) for column in operator.inputs)
    operator.outputs[0].type = (DoubleTensorType if double else FloatTensorType)([None, width])


def _move(graph: Graph, container: Any) -> None:
    container.initializers.extend(graph.initializers)
    for node in graph.nodes:
        container.nodes.append(node)
        container.node_domain_version_pair_sets.add((node.domain, ML_OPSET if node.domain else OPSET))

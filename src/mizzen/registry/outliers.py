"""Outlier detectors as models: fitted on a sample, given as ONNX, served like any other.

    return TrainedModel(outliers.isolation_forest(X), {"sample_rows": len(X)}, example=X[:10])

A detector takes the rows that the model takes (one matrix `input`) and gives `outlier_score`, shape (n, 1), FP32: how
unusual a row is, scaled so that 1 is as unusual as the share `beyond` of the sample; and `is_outlier`, whether it is
above 1. As a node of a graph its score can be a switch's condition (`outlier_score > 1.5`) or an output beside the
prediction.

`isolation_forest`: rows that random splits set apart early (F. T. Liu et al., Isolation Forest, 2008):
2^(-E[h] / c(psi)), h the depth at which a row is alone and c(psi) its mean for psi rows. For any shape of data.
`mahalanobis`: the distance from the centre in units of the sample's own spread, with centre and covariance from the
half of the sample that lies closest together (P. Rousseeuw, minimum covariance determinant), so that outliers in the
sample do not hide outliers. For data that is one cloud; it sees unusual combinations of usual values.

A missing value is taken for the sample's median.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from sklearn.covariance import MinCovDet
from sklearn.ensemble import IsolationForest

from mizzen.registry.forests.forest import Forest, Link, add_forest
from mizzen.registry.forests.scikit import tree_of
from mizzen.registry.graph import Graph
from mizzen.registry.onnx_file import session_of

SCORE, VERDICT = "outlier_score", "is_outlier"
Floats = NDArray[np.float64]


def isolation_forest(rows: Any, *, beyond: float = 0.01, trees: int = 100, seed: int = 0) -> bytes:
    """A detector as ONNX, from a sample of rows, shape (n, features).

    Raises `ValueError` for a sample that is no matrix of at least two rows of numbers, or a share outside (0, 1).
    """
    sample, medians = _checked(rows, beyond)
    fitted = IsolationForest(n_estimators=trees, random_state=seed).fit(sample.astype(np.float32))
    members = [tree_of(member.tree_, _depths(member.tree_)) for member in fitted.estimators_]
    steepness = -np.log(2.0) / _mean_depth(np.array([float(fitted.max_samples_)]))[0]
    forest = Forest(
        members, sample.shape[1], 1, np.zeros(1), Link.EXP, scale=steepness / len(members), single_precision=True
    )

    def scored(graph: Graph, values: str) -> str:
        return add_forest(graph, forest, values)

    return _finished(sample, medians, beyond, scored)


def mahalanobis(rows: Any, *, beyond: float = 0.01, seed: int = 0) -> bytes:
    """A detector as ONNX, from a sample of rows, shape (n, features).

    Raises `ValueError` as `isolation_forest` does.
    """
    sample, medians = _checked(rows, beyond)
    spread = sample.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    fitted = MinCovDet(random_state=seed).fit(sample / scale)
    covariance = fitted.covariance_ + 1e-9 * np.eye(sample.shape[1])
    root = np.linalg.cholesky(np.linalg.pinv(covariance, hermitian=True) + 1e-12 * np.eye(sample.shape[1]))

    def scored(graph: Graph, values: str) -> str:
        scaled = graph.add("Div", [values, graph.constant(scale)])
        centred = graph.add("Sub", [scaled, graph.constant(fitted.location_)])
        turned = graph.add("MatMul", [centred, graph.constant(root)])
        squares = graph.add("Mul", [turned, turned])
        total = graph.add("ReduceSum", [squares, graph.constant(np.array([1], np.int64))], keepdims=1)
        return graph.add("Sqrt", [total])

    return _finished(sample, medians, beyond, scored)


def _finished(sample: Floats, medians: Floats, beyond: float, scored: Any) -> bytes:
    """The detector whose score is 1 at the sample's quantile."""
    raw = _model(sample.shape[1], medians, scored, 1.0)
    scores = session_of(raw).run([SCORE], {"input": sample})[0]
    border = float(np.quantile(scores, 1.0 - beyond))
    return _model(sample.shape[1], medians, scored, border if border > 0 else 1.0)


def _model(features: int, medians: Floats, scored: Any, border: float) -> bytes:
    graph = Graph()
    values = graph.add_input("input", "FP64", features)
    present = graph.add("Where", [graph.add("IsNaN", [values]), graph.constant(medians), values])
    score = graph.add("Div", [scored(graph, present), graph.constant(np.array(border))])
    graph.add_output(SCORE, score, TensorProto.FLOAT, 1)
    graph.add_output(VERDICT, graph.add("Greater", [score, graph.constant(np.array(1.0))]), TensorProto.BOOL, 1)
    return graph.to_onnx("mizzen outlier detector")


def _checked(rows: Any, beyond: float) -> tuple[Floats, Floats]:
    """The sample without gaps, and its medians."""
    sample = np.asarray(rows, np.float64)
    if sample.ndim != 2 or len(sample) < 2 or sample.shape[1] < 1:
        raise ValueError(f"rows: expected a matrix of at least two rows, got shape {list(sample.shape)}")
    if np.isinf(sample).any() or np.isnan(sample).all(axis=0).any():
        raise ValueError("rows: expected finite numbers, with at least one in each column")
    if not 0.0 < beyond < 1.0:
        raise ValueError(f"beyond: expected a share between 0 and 1, got {beyond}")
    medians = np.nanmedian(sample, axis=0)
    return np.where(np.isnan(sample), medians, sample), medians


def _depths(tree: Any) -> Floats:
    """Each node's depth, and of a leaf of several rows the mean depth where they would be alone; shape (nodes, 1)."""
    depths = np.zeros(tree.node_count)
    for number in range(tree.node_count):
        for child in (tree.children_left[number], tree.children_right[number]):
            if child >= 0:
                depths[child] = depths[number] + 1
    return (depths + _mean_depth(tree.n_node_samples.astype(np.float64)))[:, None]


def _mean_depth(rows: Floats) -> Floats:
    """c(n): the mean depth of an unsuccessful search in a binary tree of n rows (Liu et al., equation 1)."""
    several = np.maximum(rows, 3.0)
    harmonic = np.log(several - 1.0) + np.euler_gamma
    return np.where(rows > 2, 2.0 * harmonic - 2.0 * (several - 1.0) / several, np.where(rows == 2, 1.0, 0.0))

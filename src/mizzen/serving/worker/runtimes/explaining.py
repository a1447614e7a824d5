"""The explanations of a model, from what lies beside it in the store."""

import importlib

from mizzen.serving.worker.artifacts import BACKGROUND, FOREST, Artifacts
from mizzen.serving.worker.errors import TaskError
from mizzen.serving.worker.runtimes.runtime import Runtime
from mizzen.serving.worker.task import Explaining


def explainer_of(model: Runtime, artifacts: Artifacts, asked: Explaining) -> Runtime:
    """The explanations of a loaded model. Raises `TaskError` where it cannot be explained so."""
    background = artifacts.beside(BACKGROUND)
    if background is None:
        raise TaskError("the model version has no background to be explained against: register it with an example")
    forest = artifacts.beside(FOREST) if asked.method != "kernel" else None
    if forest is None and asked.method == "tree":
        raise TaskError("explain.method: expected auto or kernel, since the model version has no trees, got tree")
    explainer = importlib.import_module("mizzen.serving.worker.runtimes.explainer")
    trees = explainer.forest_of(forest) if forest is not None else None
    made: Runtime = explainer.ExplainerRuntime(model, explainer.rows_of(background), trees, asked.coalitions)
    return made

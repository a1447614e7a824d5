"""Explanations as they are served: from a registered model, through a real worker and gateway, and from the runtime."""

import hashlib
import json

import lightgbm
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from tests.serving.builders import doubling_model
from tests.serving.stack import Stack, eventually

from mizzen.data.lake.objects import Store
from mizzen.registry.artifact import put_model
from mizzen.registry.background import BACKGROUND, FOREST
from mizzen.registry.registering import prepare
from mizzen.serving.gateway.directory import ApiKey, Endpoint, Version
from mizzen.serving.worker.arrays import Array
from mizzen.serving.worker.errors import BatchError, TaskError
from mizzen.serving.worker.runtimes.explainer import ExplainerRuntime, forest_of, rows_of
from mizzen.serving.worker.runtimes.onnx import OnnxRuntime


def trained(columns: int = 5):
    random = np.random.default_rng(0)
    x = random.normal(size=(300, columns))
    y = (x[:, 0] * x[:, 1] + x[:, 2] > 0).astype(int)
    return lightgbm.LGBMClassifier(n_estimators=8, num_leaves=8, verbose=-1).fit(x, y), x


def explainer(prepared, *, trees: bool, coalitions: int = 512) -> ExplainerRuntime:
    files = dict(prepared.beside)
    forest = forest_of(files[FOREST]) if trees else None
    return ExplainerRuntime(OnnxRuntime(prepared.model, 1), rows_of(files[BACKGROUND]), forest, coalitions)


def test_a_registered_forest_is_explained_exactly_by_its_trees():
    model, x = trained()
    prepared = prepare(model, example=x[:10], holdout=x)
    runtime = explainer(prepared, trees=True)
    values, base, explained = runtime.run({"input": x[:7]})
    assert values.shape == (7, 5, 1)
    assert np.allclose(explained[:, 0], model.predict(x[:7], raw_score=True), atol=1e-5)
    assert np.allclose(values.sum(axis=1) + base, explained)
    assert runtime.facts["background rows"] == "64"
    assert runtime.signature.outputs[0].shape == (-1, 5, 1)


def test_any_model_is_explained_by_coalitions_as_probabilities():
    model, x = trained()
    runtime = explainer(prepare(model, example=x[:10], holdout=x), trees=False)
    values, base, explained = runtime.run({"input": x[:3]})
    assert values.shape == (3, 5, 2)
    assert np.allclose(explained, model.predict_proba(x[:3]), atol=1e-5)
    assert np.allclose(values[..., 0], -values[..., 1], atol=1e-5), "what one class gains the other loses"
    assert np.allclose(base.sum(axis=1), 1.0, atol=1e-5)


def test_columns_of_text_and_numbers_are_features_each():
    frame = pd.DataFrame({"city": ["a", "b", "c", "a"] * 5, "size": np.arange(20.0)})
    pipeline = make_pipeline(
        ColumnTransformer([("city", OneHotEncoder(), ["city"])], remainder="passthrough"), LinearRegression()
    ).fit(frame, frame["size"] * 2 + (frame["city"] == "a") * 10)
    prepared = prepare(pipeline, example=frame)
    assert FOREST not in dict(prepared.beside)
    runtime = explainer(prepared, trees=False)
    one: dict[str, Array] = {"city": np.array([["a"]], object), "size": np.array([[19.0]])}
    inputs = {spec.name: one[spec.name].astype(dict_type(spec.datatype)) for spec in runtime.signature.inputs}
    values, _, explained = runtime.run(inputs)
    assert np.allclose(values[0, :, 0], [10.0 * 0.5, 2 * (19.0 - 9.5)], atol=1e-2)
    assert np.allclose(explained, 48.0, atol=1e-2)


def dict_type(datatype: str) -> type:
    return {"BYTES": object, "FP32": np.float32, "FP64": np.float64, "INT64": np.int64}[datatype]


def test_what_cannot_be_explained_is_told():
    model, x = trained()
    prepared = prepare(model, example=x[:10])
    with pytest.raises(TaskError, match="the background lacks input"):
        ExplainerRuntime(OnnxRuntime(prepared.model, 1), {}, None, 10)
    with pytest.raises(TaskError, match="the background is no file of arrays"):
        rows_of(b"nothing")
    runtime = explainer(prepared, trees=False)
    runtime._model.run = lambda rows: [None, np.full((len(rows["input"]), 2), np.nan)]
    with pytest.raises(BatchError, match="not a finite number"):
        runtime.run({"input": x[:1]})


def test_post_explain_answers_with_shapley_values_and_who_may_ask_may_ask_why():
    model, x = trained()
    prepared = prepare(model, example=x[:10], holdout=x)
    with Stack() as stack:
        digest = put_model(Store.open(f"file://{stack.root}/store"), prepared).digest
        stack.serve(digest, anonymous=False)
        stack.endpoints["m:explain"] = Endpoint("default", "m:explain", versions=(Version("m", 1, digest),))
        stack.keys["k"] = ApiKey(hashlib.sha256(b"secret").hexdigest(), "default", frozenset({"m"}))
        stack.worker(digest, "m:explain", explain={"method": "auto"})
        stack.start_gateway()
        body = json.dumps(
            {"inputs": [{"name": "input", "shape": [1, 5], "datatype": "FP64", "data": x[0].tolist()}]}
        ).encode()
        with stack.client() as client:

            def ask(key: str):
                return client.ask("POST", "/v2/models/m:explain", body, {"X-API-Key": key})

            answer = eventually(lambda: (found := ask("secret")).status == 200 and found, "an explanation")
            outputs = {output["name"]: output["data"] for output in answer.json["outputs"]}
            assert np.allclose(outputs["explained"], model.predict(x[:1], raw_score=True), atol=1e-5)
            assert np.isclose(sum(outputs["shap_values"]) + outputs["base_values"][0], outputs["explained"][0])
            assert ask("other").status == 401
            rows = json.dumps({"instances": [{"input": x[0].tolist()}]}).encode()
            people = client.ask("POST", "/v1/endpoints/m:explain", rows, {"X-API-Key": "secret"})
            assert people.status == 200, people
            (row,) = people.json["predictions"]
            assert np.ravel(row["shap_values"]).tolist() == outputs["shap_values"]
            assert client.ask("POST", "/v1/endpoints/absent:explain", rows, {"X-API-Key": "secret"}).status == 404


def test_a_version_without_a_background_says_so():
    with Stack() as stack:
        digest = stack.put(doubling_model())
        worker = stack.worker(digest, "m:explain", told=False, explain={})
        worker.line_with("has no background to be explained against: register it with an example")
        assert worker.inner.wait(30) == 2

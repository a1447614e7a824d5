"""What every runtime must do, whichever library it stands on: one suite for all of them.

A case is a model trained on generated rows, with what its own library answers. It is prepared, stored, and loaded from
the store as a worker loads it.
"""

import contextlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from mizzen.data.lake.code import bundle, put_bundle
from mizzen.data.lake.objects import Store
from mizzen.registry.artifact import put_model
from mizzen.registry.errors import ConversionFailed, ModelUnfit
from mizzen.registry.package import Package, decode
from mizzen.registry.prepared import Prepared
from mizzen.registry.python_model import PythonModel, prepare_python
from mizzen.registry.registering import prepare
from mizzen.registry.trying import lay_out, try_out
from mizzen.serving.frames import Cancel, ErrorCode, Run, TensorHead, write_frame
from mizzen.serving.tensors import Tensor, TensorSpec
from mizzen.serving.worker.arrays import DTYPES, array_of, tensor_of
from mizzen.serving.worker.errors import BatchError, TaskError
from mizzen.serving.worker.model import Model
from mizzen.serving.worker.runtimes.loading import runtime_of
from mizzen.serving.worker.runtimes.onnx import OnnxRuntime

from .stack import PATIENCE_S, Stack
from .test_worker import Gateway

ROWS, COLUMNS = 200, 5
_RANDOM = np.random.default_rng(7)
X = _RANDOM.normal(size=(ROWS, COLUMNS))
Y = X[:, 0] * 2 - X[:, 1] + 0.1 * _RANDOM.normal(size=ROWS)
LABELS = (Y > 0).astype(int)
WORDS = np.array(["low", "high"], dtype=object)[LABELS]
FRAME = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "kind": np.array(["x", "y", "z"])[_RANDOM.integers(0, 3, ROWS)]})


@dataclass
class Case:
    """A model as its library has it: `expected` gives outputs by name for rows as the library takes them."""

    prepared: Prepared
    expected: dict[str, Any]
    feed: dict[str, np.ndarray]
    trusted: list[str] = field(default_factory=list)


def _tabular(model: Any, rows: Any, form: Any = "native") -> Case:
    prepared = prepare(model, rows[:8], rows, form)
    feed = {}
    for tensor in prepared.signature.inputs:
        if tensor.name == "input":
            feed["input"] = np.asarray(rows, DTYPES[tensor.datatype])
        else:
            feed[tensor.name] = rows[tensor.name].to_numpy().reshape(-1, 1)
    if hasattr(model, "predict_proba"):
        expected = {"label": model.predict(rows), "probabilities": model.predict_proba(rows)}
    elif isinstance(model, lgb.Booster):
        expected = {"prediction": model.predict(rows)}
    elif isinstance(model, xgb.Booster):
        raw = model.inplace_predict(rows)
        expected = {"label": raw.argmax(axis=1), "probabilities": raw}
    else:
        name = "label" if [one.name for one in prepared.signature.outputs] == ["label"] else "prediction"
        expected = {name: model.predict(rows)}
    return Case(prepared, expected, feed, list(prepared.untrusted))


def onnx_case(_: Any) -> Case:
    return _tabular(LogisticRegression().fit(X, LABELS), X, "onnx")


def lightgbm_regression(_: Any) -> Case:
    return _tabular(lgb.train({"verbose": -1, "num_threads": 1}, lgb.Dataset(X, Y), 20), X)


def lightgbm_words(_: Any) -> Case:
    return _tabular(lgb.LGBMClassifier(n_estimators=10, verbose=-1, n_jobs=1).fit(X, WORDS), X)


def xgboost_early_stopped(_: Any) -> Case:
    model = xgb.XGBClassifier(n_estimators=60, early_stopping_rounds=2, n_jobs=1)
    return _tabular(model.fit(X, LABELS, eval_set=[(-X, LABELS)], verbose=False), X)


def xgboost_many(_: Any) -> Case:
    many = np.digitize(Y, [-1, 1])
    settings = {"objective": "multi:softprob", "num_class": 3, "nthread": 1, "verbosity": 0}
    return _tabular(xgb.train(settings, xgb.DMatrix(X, many), 10), X)


def skops_forest(_: Any) -> Case:
    return _tabular(RandomForestClassifier(10, random_state=1).fit(X, WORDS), X)


def skops_frame(_: Any) -> Case:
    columns = ColumnTransformer([("kind", OneHotEncoder(), ["kind"])], remainder="passthrough")
    return _tabular(make_pipeline(columns, StandardScaler(), LogisticRegression()).fit(FRAME, LABELS), FRAME)


def skops_labels_only(_: Any) -> Case:
    return _tabular(SVC().fit(X, LABELS), X)


def skops_regression(_: Any) -> Case:
    return _tabular(KNeighborsRegressor().fit(X, np.column_stack([Y, -Y])), X)


SOURCE = """
import numpy as np

class Line:
    def load(self, context):
        self.weights = np.load(context.folder / "weights.npy")

    def predict(self, batch):
        return {"score": (batch["x"] @ self.weights), "echo": batch["name"]}
"""


def python_case(place: Any) -> Case:
    project, files = place / "project", place / "files"
    project.mkdir()
    files.mkdir()
    (project / "line.py").write_text(SOURCE)
    weights = np.arange(COLUMNS, dtype="f8")
    np.save(files / "weights.npy", weights)
    store = Store.open(f"file://{place}/store")
    feed = {"x": X, "name": WORDS.reshape(-1, 1)}
    made = prepare_python(PythonModel("line:Line", files), store, put_bundle(store, bundle(project)), feed)
    return Case(made, {"score": X @ weights, "echo": WORDS.reshape(-1, 1)}, feed)


def torch_case(_: Any) -> Case:
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(COLUMNS, 3)

        def forward(self, x, scale):
            return {"y": self.layer(x) * scale, "positive": x.sum(1) > 0}

    torch.manual_seed(1)
    x, scale = torch.tensor(X, dtype=torch.float32), torch.ones(ROWS, 1)
    rows = torch.export.Dim("rows")
    program = torch.export.export(Net().eval(), (x, scale), dynamic_shapes={"x": {0: rows}, "scale": {0: rows}})
    feed = {"x": x.numpy(), "scale": scale.numpy()}
    with torch.no_grad():
        expected = {name: value.numpy() for name, value in program.module()(x, scale).items()}
    return Case(prepare(program, feed), expected, feed)


MAKERS: list[Callable[[Any], Case]] = [
    onnx_case, lightgbm_regression, lightgbm_words, xgboost_early_stopped, xgboost_many, skops_forest, skops_frame,
    skops_labels_only, skops_regression, python_case, torch_case,
]  # fmt: skip
ONE_OF_EACH = [onnx_case, lightgbm_words, xgboost_many, skops_forest, python_case, torch_case]


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Cases, their loaded models and their folders, each made once."""
    made: dict[str, tuple[Case, Model, Any]] = {}

    def case_of(make: Callable[[Any], Case]) -> tuple[Case, Model, Any]:
        if make.__name__ not in made:
            place = tmp_path_factory.mktemp(make.__name__)
            case = make(place)
            made[make.__name__] = case, loaded(case, place), place
        return made[make.__name__]

    return case_of


def loaded(case: Case, place: Any) -> Model:
    if case.prepared.format == "onnx":
        return Model(OnnxRuntime(case.prepared.model, 1))
    folder = place / "model"
    package: Package = decode(case.prepared.model)
    parts = [part for part in case.prepared.parts if part[0] in package.files]
    lay_out(folder, package, parts, Store.open(f"file://{place}/store"))
    return Model(runtime_of(folder, 1, case.trusted))


def tensors_of(feed: dict[str, np.ndarray], specs: tuple[TensorSpec, ...], rows: slice = slice(None)) -> list[Tensor]:
    return [tensor_of(spec, feed[spec.name][rows]) for spec in specs]


def answers(model: Model, feed: dict[str, np.ndarray], rows: slice = slice(None)) -> dict[str, np.ndarray]:
    found = model.run(tensors_of(feed, model.signature.inputs, rows))
    return {one.name: array_of(one, text=True) for one in found}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], rows: slice = slice(None)) -> None:
    assert set(found) == set(expected)
    for name, values in expected.items():
        wanted = np.asarray(values)[rows]
        if wanted.dtype.kind in "OUS":
            assert found[name].tolist() == wanted.tolist()
        else:
            np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_it_answers_what_its_library_answers(cases, make):
    """All rows at once, some, and one by one."""
    case, model, _ = cases(make)
    assert model.signature.batchable
    for rows in (slice(None), slice(3, 20), *(slice(index, index + 1) for index in range(5))):
        assert_same(answers(model, case.feed, rows), case.expected, rows)
    assert model.runtime.facts["threads"] == "1"
    assert model.runtime.facts["provider"] == "CPU"


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_what_it_is_registered_with_is_what_it_says(cases, make):
    """The signature in the version is the worker's; the example in the store is answered."""
    case, model, _ = cases(make)
    registered = case.prepared.signature
    for mine, theirs in ((model.signature.inputs, registered.inputs), (model.signature.outputs, registered.outputs)):
        assert [(one.name, one.datatype, list(one.shape)) for one in mine] == [
            (one.name, one.datatype, one.shape) for one in theirs
        ]
    assert case.prepared.example is not None
    assert len(answers(model, case.prepared.example)) == len(registered.outputs)
    if case.prepared.format != "python":
        assert case.prepared.check is not None
        assert case.prepared.check.max_abs_difference <= case.prepared.check.tolerance


@pytest.mark.parametrize("make", ONE_OF_EACH, ids=lambda make: make.__name__)
def test_wrong_inputs_are_refused_in_words_and_the_next_are_answered(cases, make):
    case, model, _ = cases(make)
    specs = model.signature.inputs
    good = tensors_of(case.feed, specs, slice(0, 2))
    wide = next(index for index, spec in enumerate(specs) if len(spec.shape) == 2 and spec.datatype != "BYTES")
    values = case.feed[specs[wide].name][:2]
    spec = specs[wide]
    wider = TensorSpec(spec.name, spec.datatype, (-1, spec.shape[1] + 3))
    bad = [*good]
    bad[wide] = tensor_of(wider, np.concatenate([values, values[:, :1], values[:, :1], values[:, :1]], axis=1))
    for wrong in (bad, []):
        with pytest.raises(BatchError) as caught:
            model.run(wrong)
        assert str(caught.value)
        assert "\n" not in str(caught.value)
    assert_same({one.name: array_of(one, text=True) for one in model.run(good)}, case.expected, slice(0, 2))


@pytest.mark.parametrize(
    "make", [make for make in ONE_OF_EACH if make is not onnx_case], ids=lambda make: make.__name__
)
def test_a_file_that_is_no_model_is_refused_in_words(cases, make, tmp_path):
    """Or the process that tries it dies of it, as XGBoost does, and that is what is said."""
    case, _, place = cases(make)
    package = decode(case.prepared.model)
    for data in (b"", b"\x80\x04\x95nonsense"):
        folder = tmp_path / f"model-{len(data)}"
        lay_out(folder, package, [(entry, data) for entry in package.files], Store.open(f"file://{place}/store"))
        with pytest.raises(ModelUnfit) as caught:
            try_out(folder, None)
        assert len(str(caught.value)) > 20


# In a process of its own


@pytest.fixture
def stack():
    with Stack() as made:
        yield made


def started(stack: Stack, case: Case, place: Any, **task):
    store = Store.open(f"file://{stack.root}/store")
    digest = put_model(store, case.prepared).digest
    if case.prepared.code is not None:
        put_bundle(store, bundle(place / "project"))
    return stack.worker(
        digest, told=False, format=case.prepared.format, trusted=case.trusted, warmRows=[1, 2, 4], **task
    )


@pytest.mark.parametrize("make", ONE_OF_EACH, ids=lambda make: make.__name__)
def test_it_keeps_to_the_talk_in_a_process_of_its_own(stack, cases, make):
    """Warm for every size, answers, cancelled before it ran, drained and ended; killed, and taken up again."""
    case, _, place = cases(make)
    worker = started(stack, case, place)
    with Gateway(worker) as gateway:
        assert [rows for rows, _ in gateway.hello.profile] == [1, 2, 4]
        assert all(seconds > 0 for _, seconds in gateway.hello.profile)
        specs = gateway.hello.signature.inputs
        batches = [tensors_of(case.feed, specs, slice(index, index + 2)) for index in (0, 2)]
        for number, tensors in enumerate(batches):
            gateway.run(number, *tensors)
            found = {one.name: array_of(one, text=True) for one in gateway.next().tensors}
            assert_same(found, case.expected, slice(2 * number, 2 * number + 2))
        sent = b"".join(run(number, *batches[0]) for number in (7, 8)) + b"".join(write_frame(Cancel(8)))
        gateway.socket.sendall(sent)
        headers = {header.batch: header for header in (gateway.next().header, gateway.next().header)}
        assert type(headers[7]).__name__ == "Result"
        assert type(headers[8]).__name__ == "Result" or headers[8].code is ErrorCode.CANCELLED
        worker.inner.terminate()
        assert type(gateway.next().header).__name__ == "Drain"
        gateway.run(9, *batches[1])
        assert gateway.next().header.batch == 9, "what was granted may still come"
    assert worker.inner.wait(PATIENCE_S) == 0


@pytest.mark.slow
@pytest.mark.parametrize("make", ONE_OF_EACH, ids=lambda make: make.__name__)
def test_killed_it_leaves_nothing_that_stops_the_next(stack, cases, make):
    case, _, place = cases(make)
    worker = started(stack, case, place)
    with Gateway(worker) as gateway:
        sent = run(1, *tensors_of(case.feed, gateway.hello.signature.inputs, slice(0, 100)))
        gateway.socket.sendall(sent)
        worker.kill()
        with contextlib.suppress(ConnectionError):
            while gateway.next() is not None:
                pass
    started(stack, case, place).line_with("ready")


def run(number: int, *tensors: Tensor) -> bytes:
    heads = tuple(TensorHead(t.name, t.datatype, t.shape, len(t.data)) for t in tensors)
    return b"".join(write_frame(Run(number, heads), [t.data for t in tensors]))


# Trust

DOUBTFUL = """
from sklearn.linear_model import LogisticRegression

class Doubtful(LogisticRegression):
    pass
"""


def test_a_type_that_nobody_approved_is_not_loaded(tmp_path, monkeypatch):
    """It is registered, with what it needs: its code, and its name for the owner to approve. A worker that is not told
    to trust it refuses and says what to do; one that is answers as the original did.
    """
    project = tmp_path / "project"
    project.mkdir()
    (project / "doubtful.py").write_text(DOUBTFUL)
    monkeypatch.syspath_prepend(str(project))
    kind = importlib.import_module("doubtful").Doubtful
    store = Store.open(f"file://{tmp_path}/store")
    code = put_bundle(store, bundle(project))
    model = kind().fit(X, LABELS)
    made = prepare(model, X[:8], X, "native", (store, code))
    assert (made.untrusted, made.code) == (("doubtful.Doubtful",), code)
    artifact = put_model(store, made)
    assert artifact.untrusted_types == ["doubtful.Doubtful"]
    lay_out(tmp_path / "m", decode(made.model), made.parts, store)
    with pytest.raises(TaskError) as caught:
        runtime_of(tmp_path / "m", 1)
    assert "doubtful.Doubtful" in str(caught.value)
    assert "spec.trustedTypes" in str(caught.value)
    found = answers(Model(runtime_of(tmp_path / "m", 1, ["doubtful.Doubtful"])), {"input": X})
    assert_same(found, {"label": model.predict(X), "probabilities": model.predict_proba(X)})


def test_what_cannot_be_converted_is_kept_as_it_is_unless_it_is_to_be_onnx():
    """An estimator that skl2onnx does not know."""
    model = make_pipeline(StandardScaler(), KNeighborsRegressor(metric="canberra")).fit(X, Y)
    with pytest.raises(ConversionFailed):
        prepare(model, X[:8], X, "onnx")
    made = prepare(model, X[:8], X)
    assert (made.format, made.check is not None) == ("skops", True)


@pytest.mark.parametrize(("maker", "ending"), [(lightgbm_words, "txt"), (xgboost_many, "ubj"), (xgboost_many, "json")])
def test_a_librarys_own_file_is_registered_as_it_is(cases, tmp_path, maker, ending):
    """What it takes and gives the library says; labels without names are numbers."""
    case, _, _ = cases(maker)
    path = tmp_path / f"brought.{ending}"
    ((_, data),) = case.prepared.parts
    if ending == "json":
        booster = xgb.Booster()
        booster.load_model(bytearray(data))
        data = bytes(booster.save_raw("json"))
    path.write_bytes(data)
    made = prepare(path, {"input": X})
    assert [one.name for one in made.signature.outputs] == ["label", "probabilities"]
    assert made.signature.inputs[0].shape == [-1, COLUMNS]
    lay_out(tmp_path / "m", decode(made.model), made.parts)
    found = answers(Model(runtime_of(tmp_path / "m", 1)), {"input": X})
    np.testing.assert_allclose(found["probabilities"], case.expected["probabilities"], rtol=1e-5, atol=1e-5)
    assert set(found["label"].tolist()) <= {0, 1, 2}

"""Conversion of estimators and boosters: the answers, the names, the types, the inputs, and what is refused."""

import io
import warnings
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost as xgb
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC

from mizzen.kinds.build import Tensor
from mizzen.registry import convert as convert_module
from mizzen.registry.convert import Converted, convert
from mizzen.registry.errors import ConversionDiffers, ConversionFailed, ModelUnfit
from mizzen.registry.onnx_file import session_of
from mizzen.registry.originals import Original, original_of
from mizzen.registry.rows import Rows

ROWS = 400
LABEL, TEXT_LABEL = (
    Tensor(name="label", datatype="INT64", shape=[-1]),
    Tensor(name="label", datatype="BYTES", shape=[-1]),
)
PREDICTION = Tensor(name="prediction", datatype="FP64", shape=[-1])


def probabilities(classes: int) -> Tensor:
    return Tensor(name="probabilities", datatype="FP32", shape=[-1, classes])


class Data:
    """Numbers as a matrix and as a frame, a frame with text and truth values, and targets of each kind."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.matrix = random.normal(size=(ROWS, 5))
        self.matrix[:, 4] = 1.38e9 + random.integers(0, 10_000, ROWS)
        self.frame = pd.DataFrame(self.matrix, columns=list("pqrst"))
        score = self.matrix[:, 0] + self.matrix[:, 1] * self.matrix[:, 2]
        self.score, self.two = score, (score > 0).astype(int)
        self.three = np.array(["low", "mid", "top"])[np.digitize(score, [-0.5, 0.8])]
        self.mixed = self.frame.assign(
            i=random.integers(0, 9, ROWS),
            c=np.array(["u", "v", "w"])[random.integers(0, 3, ROWS)],
            b=random.random(ROWS) > 0.5,
        ).astype({"s": "float32"})
        self.mixed.loc[::7, "p"] = np.nan


DATA = Data()


def columns() -> ColumnTransformer:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return ColumnTransformer(
        [("n", numbers, ["p", "q", "s", "i"]), ("c", OneHotEncoder(handle_unknown="ignore"), ["c"])]
    )


def quiet_lgbm(kind: Any) -> Any:
    return kind(n_estimators=8, verbose=-1, num_threads=1)


CASES: dict[str, tuple[Any, Any, Any, list[Tensor]]] = {
    "logistic regression": (make_pipeline(StandardScaler(), LogisticRegression()), "matrix", "two", [LABEL, probabilities(2)]),
    "text labels": (make_pipeline(StandardScaler(), LogisticRegression()), "matrix", "three", [TEXT_LABEL, probabilities(3)]),
    "linear regression": (LinearRegression(), "frame", "score", [PREDICTION]),
    "random forest": (RandomForestClassifier(8, random_state=0), "frame", "three", [TEXT_LABEL, probabilities(3)]),
    "forest of two targets": (RandomForestRegressor(8, random_state=0), "matrix", "both", [Tensor(name="prediction", datatype="FP64", shape=[-1, 2])]),
    "boosting": (GradientBoostingClassifier(n_estimators=8), "matrix", "three", [TEXT_LABEL, probabilities(3)]),
    "exponential boosting": (GradientBoostingClassifier(n_estimators=8, loss="exponential"), "matrix", "two", [LABEL, probabilities(2)]),
    "histogram boosting": (HistGradientBoostingClassifier(max_iter=8), "matrix", "two", [LABEL, probabilities(2)]),
    "forest in a pipeline": (make_pipeline(StandardScaler(), RandomForestClassifier(8, random_state=0)), "matrix", "two", [LABEL, probabilities(2)]),
    "columns to regression": (make_pipeline(columns(), Ridge()), "mixed", "score", [PREDICTION]),
    "columns to classes": (make_pipeline(columns(), LogisticRegression()), "mixed", "three", [TEXT_LABEL, probabilities(3)]),
    "columns to histograms": (make_pipeline(columns(), HistGradientBoostingClassifier(max_iter=8)), "mixed", "two", [LABEL, probabilities(2)]),
    "columns to LightGBM": (make_pipeline(columns(), quiet_lgbm(lgb.LGBMClassifier)), "mixed", "three", [TEXT_LABEL, probabilities(3)]),
    "columns to XGBoost": (make_pipeline(columns(), xgb.XGBRegressor(n_estimators=8, n_jobs=1)), "mixed", "score", [PREDICTION]),
    "text imputed": (make_pipeline(ColumnTransformer([("c", make_pipeline(SimpleImputer(missing_values="", strategy="most_frequent"), OneHotEncoder()), ["c"])]), LogisticRegression()), "mixed", "two", [LABEL, probabilities(2)]),
    "ordinals": (make_pipeline(ColumnTransformer([("c", OrdinalEncoder(), ["c"])], remainder="drop"), RandomForestClassifier(8, random_state=0)), "mixed", "two", [LABEL, probabilities(2)]),
    "LGBMClassifier": (quiet_lgbm(lgb.LGBMClassifier), "frame", "three", [TEXT_LABEL, probabilities(3)]),
    "LGBMRegressor": (quiet_lgbm(lgb.LGBMRegressor), "matrix", "score", [PREDICTION]),
    "XGBClassifier": (xgb.XGBClassifier(n_estimators=8, n_jobs=1), "matrix", "two", [LABEL, probabilities(2)]),
    "XGBRFRegressor": (xgb.XGBRFRegressor(n_estimators=8, n_jobs=1), "matrix", "score", [PREDICTION]),
    "stacking": (StackingClassifier([("a", GaussianNB()), ("b", quiet_lgbm(lgb.LGBMClassifier))]), "matrix", "two", [LABEL, probabilities(2)]),
    "calibration": (CalibratedClassifierCV(RandomForestClassifier(5, random_state=0)), "matrix", "two", [LABEL, probabilities(2)]),
    "support vectors": (make_pipeline(StandardScaler(), SVC()), "matrix", "two", [LABEL]),
    "linear support vectors": (make_pipeline(StandardScaler(), LinearSVC()), "matrix", "two", [LABEL]),
    "neighbours": (make_pipeline(StandardScaler(), KNeighborsClassifier()), "matrix", "two", [LABEL, probabilities(2)]),
    "perceptron": (make_pipeline(StandardScaler(), MLPClassifier(max_iter=5)), "matrix", "two", [LABEL, probabilities(2)]),
    "truth values": (make_pipeline(StandardScaler(), LogisticRegression()), "matrix", "truth", [LABEL, probabilities(2)]),
}  # fmt: skip


def rows_and_target(rows: str, target: str) -> tuple[Any, Any]:
    targets = {"both": np.column_stack([DATA.score, -DATA.score]), "truth": DATA.two.astype(bool)}
    return getattr(DATA, rows), targets.get(target, getattr(DATA, target, None))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")  # of the libraries, about convergence and feature names
def test_estimators(name: str) -> None:
    """The converted model answers as the original on all rows, under the stable names and types."""
    model, rows_name, target_name, outputs = CASES[name]
    rows, target = rows_and_target(rows_name, target_name)
    model.fit(rows, target)
    converted = convert(expect_original(model), rows[:20], rows)
    assert converted.signature.outputs == outputs
    assert converted.check.rows == ROWS
    assert converted.check.max_abs_difference <= converted.check.tolerance
    names = [tensor.name for tensor in converted.signature.inputs]
    assert names == (list(rows.columns) if rows_name == "mixed" else ["input"])
    assert converted.signature.columns == (list("pqrst") if rows_name == "frame" else [])
    found = session_of(converted.model).run(None, converted.example)
    assert len(found[0]) == 16


def expect_original(model: Any) -> Original:
    original = original_of(model)
    assert original is not None
    return original


def test_inputs_have_the_types_of_the_example() -> None:
    """Whole numbers, floats of both widths, text and truth values; a matrix is narrow only where nothing is lost."""
    pipeline = make_pipeline(columns(), LinearRegression()).fit(DATA.mixed, DATA.score)
    converted = convert(expect_original(pipeline), DATA.mixed)
    types = {tensor.name: tensor.datatype for tensor in converted.signature.inputs}
    assert types == {**dict.fromkeys("pqrt", "FP64"), "s": "FP32", "i": "INT64", "c": "BYTES", "b": "BOOL"}
    narrow = DATA.matrix.astype(np.float32)[:, :3]
    for rows, datatype in (
        (narrow, "FP32"),
        (narrow.astype(np.float64), "FP64"),
        (np.arange(ROWS * 3).reshape(-1, 3), "FP64"),
    ):
        model = LinearRegression().fit(rows, DATA.score)
        assert convert(expect_original(model), rows).signature.inputs[0].datatype == datatype


def test_a_value_between_a_threshold_and_its_float_takes_the_right_branch() -> None:
    """Seconds since 1970 are coarser than a threshold's distance in 32 bits: single precision would be off by a leaf."""
    seconds = 1.38e9 + np.arange(200.0).reshape(-1, 1)
    booster = lgb.train(
        {"objective": "regression", "min_data_in_leaf": 1, "verbose": -1, "num_threads": 1},
        lgb.Dataset(seconds, np.arange(200) % 7.0, params={"max_bin": 400, "min_data_in_bin": 1, "verbose": -1}), 5,
    )  # fmt: skip
    assert len(np.unique(seconds.astype(np.float32))) < 5
    converted = convert(expect_original(booster), seconds)
    assert converted.check.max_abs_difference < 1e-5


def test_categories_of_data_frames_are_looked_up_in_the_graph() -> None:
    """A LightGBM model on pandas categories takes the words themselves; unknown ones are missing."""
    frame = DATA.mixed.drop(columns="b").assign(c=DATA.mixed["c"].astype("category"))
    for model in (
        quiet_lgbm(lgb.LGBMClassifier).fit(frame, DATA.two),
        lgb.train({"objective": "binary", "verbose": -1, "num_threads": 1}, lgb.Dataset(frame, DATA.two), 8),
    ):
        converted = convert(expect_original(model), frame[:20], frame)
        assert {tensor.name: tensor.datatype for tensor in converted.signature.inputs}["c"] == "BYTES"
        feed = {name: values[:3].copy() for name, values in converted.example.items()}
        feed["c"][:] = "never seen"
        unknown = frame[:3].assign(c=pd.Categorical([None] * 3, categories=["u", "v", "w"]))
        answers = expect_original(model).answers(Rows(unknown))
        found = session_of(converted.model).run(["probabilities"], feed)[0]
        np.testing.assert_allclose(found, answers["probabilities"], atol=1e-5)


@pytest.mark.parametrize(
    ("parameters", "target", "outputs"),
    [
        ({"objective": "binary:logistic"}, "two", [LABEL, probabilities(2)]),
        ({"objective": "multi:softprob", "num_class": 2}, "two", [LABEL, probabilities(2)]),
        ({"objective": "multi:softmax", "num_class": 2}, "two", [LABEL]),
        ({"objective": "reg:squarederror"}, "score", [PREDICTION]),
        ({"objective": "rank:ndcg"}, "two", [PREDICTION]),
    ],
)  # fmt: skip
def test_xgboost_boosters(parameters: dict[str, Any], target: str, outputs: list[Tensor]) -> None:
    """Bare boosters answer by the same names as estimators."""
    booster = xgb.train({"nthread": 1, **parameters}, xgb.DMatrix(DATA.matrix, getattr(DATA, target)), 8)
    assert convert(expect_original(booster), DATA.matrix).signature.outputs == outputs


def test_rows_come_as_arrow_too() -> None:
    """An Arrow table is the frame that it becomes."""
    model = LinearRegression().fit(DATA.frame, DATA.score)
    assert convert(expect_original(model), pa.Table.from_pandas(DATA.frame)).signature.columns == list("pqrst")


def test_a_model_that_answers_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the output, the row, both values and the tolerance."""
    other = LinearRegression().fit(DATA.matrix[:, :3], DATA.score + 1)
    good = convert(expect_original(other), DATA.matrix[:, :3])
    monkeypatch.setattr(convert_module, "_attempts", lambda *_: [(good_inputs(), lambda: good.model)])
    model = LinearRegression().fit(DATA.matrix[:, :3], DATA.score)
    with pytest.raises(ConversionDiffers, match=r"prediction of row \d+ is .*expected .* \(400 rows compared\)"):
        convert(expect_original(model), DATA.matrix[:, :3])


def good_inputs() -> Any:
    return convert_module.matrix_inputs(Rows(DATA.matrix[:, :3]))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (LogisticRegression(), "is not fitted"),
        (KMeans(2, n_init=1).fit(DATA.matrix), "expected a classifier or a regressor, got a clusterer"),
        (StandardScaler().fit(DATA.matrix), "expected a trained model"),
        (RandomForestClassifier(3).fit(DATA.matrix, np.column_stack([DATA.two, DATA.two])), "several outputs"),
        (42, "expected a trained model .* got int 42"),
        (None, "expected a trained model .* got NoneType"),
        ({"weights": [1]}, "expected a trained model"),
        (LinearRegression, "expected a trained model .* got "),
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused(model: Any, message: str) -> None:
    """The error says what was expected and what came."""
    with pytest.raises(ConversionFailed, match=message):
        original_of(model)


@pytest.mark.filterwarnings("ignore")
def test_what_has_no_converter_is_refused_in_one_line() -> None:
    """skl2onnx's refusal, and an imputer's of another sort."""
    model = make_pipeline(FunctionTransformer(np.log1p), LinearRegression()).fit(np.abs(DATA.matrix), DATA.score)
    with pytest.raises(ConversionFailed, match="skl2onnx refuses it") as caught:
        convert(expect_original(model), np.abs(DATA.matrix))
    assert "\n" not in str(caught.value)
    odd = xgb.XGBRegressor(n_estimators=2, missing=0.0).fit(DATA.matrix, DATA.score)
    with pytest.raises(ConversionFailed, match=r"missing=0\.0"):
        convert(expect_original(odd), DATA.matrix)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (DATA.matrix[:0], "at least one row"),
        (DATA.matrix[0], "two-dimensional"),
        (DATA.frame["p"], "expected a pandas data frame"),
        ("rows", "expected a pandas data frame"),
        ([[1, 2]], "expected a pandas data frame"),
        (DATA.mixed[["p", "c"]], "'c': expected numbers"),
        (DATA.frame.assign(p=pd.Timestamp("2020-01-01")), "'p': expected numbers, booleans or text"),
    ],
)  # fmt: skip
def test_examples_that_are_none_are_refused(example: Any, message: str) -> None:
    """The error names the column where there is one."""
    booster = lgb.train({"verbose": -1, "num_threads": 1}, lgb.Dataset(DATA.matrix, DATA.score), 2)
    with pytest.raises(ModelUnfit, match=message):
        convert(expect_original(booster), example)


def test_a_column_called_as_an_output_is_refused() -> None:
    """Inputs and outputs share one space of names."""
    frame = DATA.mixed.rename(columns={"p": "label"})
    numbers = ColumnTransformer([("n", StandardScaler(), ["label", "q"])])
    model = make_pipeline(numbers, LinearRegression()).fit(frame.fillna(0.0), DATA.score)
    with pytest.raises(ModelUnfit, match="column 'label' is called as an output"):
        convert(expect_original(model), frame.fillna(0.0))


def test_a_holdout_of_other_columns_is_refused() -> None:
    """By names or by number."""
    model = LinearRegression().fit(DATA.frame, DATA.score)
    with pytest.raises(ModelUnfit, match="holdout: expected the example's columns"):
        convert(expect_original(model), DATA.frame, DATA.frame[["p"]])


def test_an_example_that_the_model_cannot_predict_is_refused() -> None:
    """Too few columns, for each library; too many for the converted model."""
    score = DATA.score
    for model in (
        LinearRegression().fit(DATA.matrix, score),
        lgb.train({"verbose": -1, "num_threads": 1}, lgb.Dataset(DATA.matrix, score), 2),
        xgb.train({"nthread": 1}, xgb.DMatrix(DATA.matrix, score), 2),
    ):
        with pytest.raises(ModelUnfit, match="cannot predict the rows it was given"):
            convert(expect_original(model), DATA.matrix[:, :4])


def test_a_holdout_of_other_types_is_refused() -> None:
    """A value is never made another to fit."""
    pipeline = make_pipeline(columns(), LinearRegression()).fit(DATA.mixed, DATA.score)
    for name, values, message in (
        ("i", 0.5, "column 'i': expected INT64, as in the example, found missing values or fractions"),
        ("i", np.nan, "found missing values or fractions"),
        ("r", "text", "column 'r': expected FP64, as in the example, found text"),
        ("c", 5, "cannot predict|column 'c': expected text, as in the example, found"),
    ):
        with pytest.raises(ModelUnfit, match=message):
            convert(expect_original(pipeline), DATA.mixed[:9], DATA.mixed.assign(**{name: values}))


def test_conversion_leaves_the_process_as_it_was() -> None:
    """No warning of ours, nothing printed, and the user's model predicts as before."""
    model = quiet_lgbm(lgb.LGBMClassifier).fit(DATA.frame, DATA.two)
    before = model.predict_proba(DATA.frame)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made: Converted = convert(expect_original(model), DATA.frame)
    assert len(made.model) > 1000
    assert np.array_equal(model.predict_proba(DATA.frame), before)
    assert io.BytesIO(made.model).read(1)

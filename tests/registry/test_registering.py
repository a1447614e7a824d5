"""From a model to a version: numbered once, stored whole, found again."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import onnxruntime
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from mizzen.data.lake.errors import DigestMismatch
from mizzen.data.lake.objects import Store
from mizzen.kinds.build import Artifact, Lineage, ModelVersion, Signature, Tensor
from mizzen.registry.artifact import example_path, get_model, model_path
from mizzen.registry.errors import ConversionFailed, CorruptModel, ModelUnfit, VersionsContended
from mizzen.registry.lineage import imported_packages
from mizzen.registry.registering import prepare, register
from mizzen.registry.version import create_version

FRAME = pd.DataFrame({"p": [1.0, 2.0, 3.0], "q": [0.5, np.nan, 1.5]})
TENSOR = Tensor(name="x", datatype="FP32", shape=[-1])
ARTIFACT, SIGNATURE = Artifact(digest="sha256:" + "ab" * 32, bytes=1), Signature(inputs=[TENSOR], outputs=[TENSOR])


class Namespace:
    """The model versions of a namespace, in memory; a rival may take names first."""

    def __init__(self, *, highest: int = 0, rivals: int = 0) -> None:
        self.versions: dict[str, ModelVersion] = {}
        self.highest, self.rivals = highest, rivals

    async def with_labels(self, labels: Mapping[str, str]) -> list[ModelVersion]:
        await asyncio.sleep(0)
        wanted = labels.items()
        return [version for version in self.versions.values() if wanted <= version.metadata.labels.items()]

    async def highest_known(self, model: str) -> int:
        await asyncio.sleep(0)
        return self.highest

    async def create(self, version: ModelVersion) -> ModelVersion | None:
        await asyncio.sleep(0)
        if self.rivals > 0:
            self.rivals -= 1
            rival = version.model_copy(deep=True)
            rival.metadata.labels.pop("mizzen.dev/run", None)
            self.versions.setdefault(version.name, rival)
        if version.name in self.versions:
            return None
        self.versions[version.name] = version
        return version


async def created(versions: Namespace, run: str | None = None, model: str = "churn") -> ModelVersion:
    return await create_version(
        versions,
        model=model,
        run=run,
        artifact=ARTIFACT,
        signature=SIGNATURE,
        metrics={},
        lineage=Lineage(),
        conversion=None,
    )


async def test_numbers_go_up_and_are_never_used_again() -> None:
    """Also where the highest version was deleted, and where another writer takes the next number."""
    versions = Namespace(highest=4)
    assert [(await created(versions)).name for _ in range(2)] == ["churn-5", "churn-6"]
    del versions.versions["churn-6"]
    versions.highest = 6
    versions.rivals = 2
    assert (await created(versions)).name == "churn-9"
    assert (await created(versions, model="other")).name == "other-7"


async def test_a_run_makes_one_version_however_often_it_comes() -> None:
    """One after the other, and at once; the labels find it."""
    versions = Namespace()
    made = await asyncio.gather(*(created(versions, f"run-{index % 3}") for index in range(12)))
    made.append(await created(versions, "run-0"))
    assert sorted(versions.versions) == ["churn-1", "churn-2", "churn-3"]
    assert len({version.name for version in made}) == 3
    labels = versions.versions["churn-1"].metadata.labels
    assert labels == {
        "mizzen.dev/model": "churn", "mizzen.dev/version": "1", "mizzen.dev/digest": "ab" * 8,
        "mizzen.dev/run": labels["mizzen.dev/run"],
    }  # fmt: skip


async def test_endless_contention_ends_in_an_error() -> None:
    """Rather than for ever."""
    with pytest.raises(VersionsContended, match="churn: 50 other versions"):
        await created(Namespace(rivals=10_000))


async def test_a_model_is_stored_with_an_example_that_it_answers(tmp_path: Path) -> None:
    """By digest; the example is a request as a client would send it; the version says all that is known."""
    store = Store.open(tmp_path.as_uri())
    booster = lgb.train(
        {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 1}, lgb.Dataset(FRAME, [1.0, 2.0, 3.0]), 2
    )
    version = await register(Namespace(), store, "churn", prepare(booster, FRAME), run="r", metrics={"rmse": 0.5})
    digest = version.spec.artifact.digest
    request = json.loads(store.get(example_path(digest)))
    (tensor,) = request["inputs"]
    assert (tensor["name"], tensor["shape"], tensor["datatype"]) == ("input", [3, 2], "FP64")
    assert tensor["data"] == [1.0, 0.5, 2.0, 0.0, 3.0, 1.5]  # JSON has no NaN
    session = onnxruntime.InferenceSession(get_model(store, digest))
    rows = np.array(tensor["data"]).reshape(tensor["shape"])
    assert session.run(None, {"input": rows})[0].shape == (3,)
    assert version.spec.signature.columns == ["p", "q"]
    assert version.spec.lineage.source_type == "lightgbm.Booster"
    assert version.spec.lineage.packages["lightgbm"] == lgb.__version__
    assert version.spec.conversion is not None
    assert version.spec.artifact.bytes == len(get_model(store, digest))
    store.put(model_path(digest), b"forged")
    with pytest.raises(DigestMismatch):
        get_model(store, digest)


async def test_onnx_registers_as_it_is(tmp_path: Path) -> None:
    """As bytes, as a path, with an example and without; nothing is converted or compared."""
    store = Store.open(tmp_path.as_uri())
    model = prepare(LinearRegression().fit(FRAME[["p"]], [1.0, 2.0, 3.0]), FRAME[["p"]]).model
    file = tmp_path / "model.onnx"
    file.write_bytes(model)
    versions = Namespace()
    for given, example in ((model, None), (file, None), (str(file), FRAME[["p"]])):
        version = await register(versions, store, "line", prepare(given, example), lineage=Lineage())
        assert (version.spec.conversion, version.spec.lineage.source_type) == (None, "onnx")
        assert get_model(store, version.spec.artifact.digest) == model
    assert version.spec.signature.columns == ["p"]
    assert len(store.list("models")) == 2


@pytest.mark.parametrize(
    ("model", "example", "error", "message"),
    [
        (b"nonsense", None, CorruptModel, "cannot load the model"),
        (b"", None, CorruptModel, "an empty file"),
        ("no/such/file.onnx", None, CorruptModel, r"no/such/file\.onnx: cannot be read"),
        (LinearRegression(), None, ModelUnfit, "expected some rows as an example"),
        (object(), FRAME, ConversionFailed, "expected a trained model"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_gets_no_number(model: Any, example: Any, error: type[Exception], message: str) -> None:
    """It fails before anything is stored."""
    with pytest.raises(error, match=message):
        prepare(model, example)


def test_an_example_that_the_onnx_model_cannot_run_is_refused() -> None:
    """Too many columns."""
    model = prepare(LinearRegression().fit(FRAME[["p"]], [1.0, 2.0, 3.0]), FRAME[["p"]]).model
    with pytest.raises(ModelUnfit, match="expected 1 columns, as the model's input input, got 2"):
        prepare(model, FRAME)


def test_lineage_names_what_was_imported() -> None:
    """Distributions, with their versions, and not those that are only installed."""
    packages = imported_packages()
    assert packages["numpy"] == np.__version__
    assert packages["scikit-learn"]
    assert "zeep" not in packages

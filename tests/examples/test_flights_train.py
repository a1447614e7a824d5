"""The model of the example, trained as its job does: good enough on both months that it has not seen."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from flights import FACTS, raw
from sklearn.metrics import roc_auc_score
from tests.examples.known import as_known
from train import fit

from mizzen.data.lake.objects import Store
from mizzen.data.lake.parts import PartWriter
from mizzen.data.lake.rows import as_stored, storable_schema
from mizzen.data.lake.tables import Table
from mizzen.registry.onnx_file import session_of
from mizzen.registry.registering import prepare
from mizzen.training import Context


@pytest.mark.slow
def test_both_months_are_predicted_well(tmp_path: Path) -> None:
    """AUC above 0.74 on October (held out) and on November (replayed), through the table and the ONNX model."""
    found = as_known(raw())
    rows = pa.Table.from_pandas(found, preserve_index=False)
    schema = storable_schema(rows.schema)
    writer = PartWriter(tmp_path / "spool", schema)
    writer.write(as_stored(rows, schema))
    version = Table(Store.open((tmp_path / "store").as_uri()), "default", "set").commit(writer.close(), schema, "run")
    told: list[int] = []
    context = Context(
        datasets={"set": lambda: version}, training_set="set", parameters={}, seed=7, checkpoints=tmp_path,
        tell=lambda progress, _: told.append(progress.step if progress is not None else -1),
    )  # fmt: skip
    trained = fit(context)
    assert trained.metrics["roc_auc"] > 0.74
    assert told[-1] == 200
    prepared = prepare(trained.model, trained.example, trained.holdout)
    november = found[(found["month"] == 11) & found["late"].notna()]
    columns = [name for name in found.columns if name not in FACTS]
    assert prepared.signature.columns == columns
    asked = november[columns].to_numpy(np.float64)
    (answer,) = session_of(prepared.model).run(["probabilities"], {"input": asked})
    assert roc_auc_score(november["late"].astype(int), answer[:, 1]) > 0.74

"""The flights with their features as the example's views and a point-in-time join make them."""

from functools import cache
from pathlib import Path

import pandas as pd
import pyarrow as pa
import yaml
from flights import Tables, flown_legs, observed, on_board, timetable

from mizzen.data.features.definition import definition_of
from mizzen.data.features.pointintime import Clocks, InMemory, Use, join
from mizzen.kinds import FeatureView

Sources = dict[str, pd.DataFrame]


@cache
def views() -> tuple[FeatureView, ...]:
    """Those of the example's resources."""
    text = (Path(__file__).parents[2] / "examples" / "flights" / "resources.yaml").read_text()
    documents = (document for document in yaml.safe_load_all(text) if document["kind"] == "FeatureView")
    return tuple(FeatureView.model_validate(document) for document in documents)


def sources_of(tables: Tables) -> Sources:
    """What the views' datasets hold."""
    return {"board": on_board(tables), "legs": flown_legs(tables), "weather": observed(tables)}


def as_known(tables: Tables, sources: Sources | None = None) -> pd.DataFrame:
    """The training set's rows: each flight with its features, in the order in which they were scheduled."""
    rows = {name: InMemory(table(frame)) for name, frame in (sources or sources_of(tables)).items()}
    uses = [Use(definition_of(view), rows[view.spec.source.dataset or ""]) for view in views()]
    return join(table(timetable(tables)), uses, Clocks("scheduled_at")).to_pandas()


def table(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)

"""Views and tables for tests, with the parts that matter as arguments."""

import datetime as dt
from typing import Any

import pyarrow as pa

from mizzen.data.features.definition import Definition, definition_of
from mizzen.kinds import FeatureView

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
TIME = pa.timestamp("us", "UTC")


def at(minutes: float | None) -> dt.datetime | None:
    """So many minutes after the start."""
    return None if minutes is None else START + dt.timedelta(minutes=minutes)


def times(minutes: list[Any]) -> pa.Array:
    return pa.array([at(m) for m in minutes], TIME)


def view(name: str = "spending", **spec: Any) -> FeatureView:
    whole = {"entities": ["card"], "source": {"dataset": "payments"}, "eventTime": "paid_at", **spec}
    return FeatureView.model_validate({"kind": "FeatureView", "metadata": {"name": name}, "spec": whole})


def defined(name: str = "spending", **spec: Any) -> Definition:
    return definition_of(view(name, **spec))


def payments(rows: list[tuple[Any, ...]], names: str = "card paid_at amount", **types: pa.DataType) -> pa.Table:
    """Rows with minutes in the place of times, in columns that end with `_at`."""
    columns = list(zip(*rows, strict=True)) if rows else [[] for _ in names.split()]
    made = {}
    for name, values in zip(names.split(), columns, strict=True):
        made[name] = times(list(values)) if name.endswith("_at") else pa.array(list(values), types.get(name))
    return pa.table(made)

"""The data of the end-to-end tests: a small table, and sources that go wrong in the ways of real ones."""

from collections.abc import Iterator

import numpy as np
import pandas as pd


def rows() -> Iterator[pd.DataFrame]:
    """Two chunks of 500 rows: three features and a label that the first two decide."""
    random = np.random.default_rng(7)
    for _ in range(2):
        frame = pd.DataFrame(random.normal(size=(500, 3)), columns=["a", "b", "c"])
        frame["label"] = (frame["a"] + frame["b"] > 0).astype("int64")
        yield frame


def raises() -> Iterator[pd.DataFrame]:
    yield from rows()
    raise RuntimeError("the upstream system sent nothing")


def other_columns() -> Iterator[pd.DataFrame]:
    for index, frame in enumerate(rows()):
        yield frame.rename(columns={"c": "d"}) if index else frame

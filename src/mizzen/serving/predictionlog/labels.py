"""What turned out to be true, told later, joined to the requests it is about.

Labels are rows of a table beside the log: `request_id`, optionally `row` (the row of the request; absent: all its
rows), and columns of the user's, kept as `label_NAME`. They are only ever added; of several labels of one row the
newest counts (`labelled`). A delivery with a name (`run`) counts once, however often it is repeated.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime

import duckdb
import pyarrow as pa

from mizzen.data.lake.objects import Store
from mizzen.serving.predictionlog.layout import labels_path, table_path
from mizzen.serving.predictionlog.table import LogTable

_KEYS = ("request_id", "row")
_JOIN = """
SELECT p.*, l.* EXCLUDE (request_id, row)
FROM predictions p LEFT JOIN (
    SELECT * FROM labels QUALIFY row_number() OVER (PARTITION BY request_id, row ORDER BY labelled_at DESC) = 1
) l ON l.request_id = p.request_id AND coalesce(l.row, p.row) = p.row
ORDER BY p.time, p.request_id, p.row
"""


class BadLabels(ValueError):
    """The rows are no labels; the message says what was expected and found."""


def append_labels(
    store: Store,
    namespace: str,
    endpoint: str,
    rows: pa.Table,
    *,
    run: str | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> bool:
    """Adds labels. Whether it did: `False`, that run was there. Raises `BadLabels`, and `StoreUnavailable`."""
    table = LogTable(store, labels_path(namespace, endpoint))
    return table.append(_checked(rows, clock()), f"labels/{run or os.urandom(8).hex()}", 1)


def labelled(store: Store, namespace: str, endpoint: str) -> pa.Table | None:
    """The log with its labels, nulls where there are none; `None`: nothing is logged. Raises `StoreUnavailable`."""
    predictions = LogTable(store, table_path(namespace, endpoint)).arrow()
    labels = LogTable(store, labels_path(namespace, endpoint)).arrow()
    if predictions is None or labels is None:
        return predictions
    with duckdb.connect() as connection:
        connection.register("predictions", predictions)
        connection.register("labels", labels)
        return connection.sql(_JOIN).to_arrow_table()


def _checked(rows: pa.Table, now: datetime) -> pa.Table:
    names = [name for name in rows.column_names if name not in _KEYS]
    if "request_id" not in rows.column_names or not names:
        found = ", ".join(rows.column_names) or "none"
        raise BadLabels(f"expected the columns request_id and at least one label, found {found}")
    try:
        ids = rows.column("request_id").cast(pa.string())
        places = rows.column("row") if "row" in rows.column_names else pa.nulls(rows.num_rows)
        places = places.cast(pa.int32())
    except pa.ArrowInvalid as error:
        raise BadLabels(f"expected request_id as text and row as a whole number: {error}") from error
    if ids.null_count:
        raise BadLabels(f"request_id: expected one in every row, found {ids.null_count} rows without")
    told = pa.repeat(pa.scalar(now, pa.timestamp("us", tz="UTC")), rows.num_rows)
    labels = {f"label_{name.removeprefix('label_')}": rows.column(name) for name in names}
    return pa.table({"request_id": ids, "row": places, "labelled_at": told, **labels})

"""The Delta table of a prediction log: appends that count once, and columns that come with new signatures.

A commit holds some segments of a spool and carries the number of the last of them as a Delta transaction of that spool.
Whoever appends looks at the table first: a number that is there already was committed before, by a writer that did not
live to know it. So the same segments can be appended again and again, and are in the table once.

A new version of the model with other inputs adds its columns; rows from before have nulls there. A column whose type
changes is widened where that loses nothing, and else gets a name of its own (`columns.fitted`).
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from mizzen.data.lake.errors import StoreUnavailable
from mizzen.data.lake.objects import Store
from mizzen.serving.predictionlog.columns import fitted

_APPLICATION = "mizzen.predictionlog"
_SOON_TOLD = {"max_retries": "3", "retry_timeout": "15s"}
"""Of a store that is away the writer wants to know, and to say so: it tries again by itself."""
COMPACT_BELOW_BYTES = 64 << 20
"""Files of a day that are smaller are put together, up to this size."""


class LogTable:
    """A table that only grows."""

    def __init__(self, store: Store, path: str) -> None:
        self._store = store
        self.path = path
        self.location = store.url_of(path)
        self._options = {**store.table_options, **_SOON_TOLD}

    def __repr__(self) -> str:
        return f"LogTable({self.location!r})"

    def open(self) -> DeltaTable | None:
        """The newest version; `None` where there is none yet. Raises `StoreUnavailable`."""
        local = self._store.local_path(f"{self.path}/_delta_log")
        if local is not None and not local.is_dir():
            return None  # the library would make the folder
        try:
            return DeltaTable(self.location, storage_options=self._options)
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise StoreUnavailable(f"{self.location}: {_line(error)}") from error

    def committed(self, spool: str) -> int:
        """The number of that spool's last segment that is in the table; 0 where none is."""
        table = self.open()
        return 0 if table is None else table.transaction_version(f"{_APPLICATION}/{spool}") or 0

    def append(self, rows: pa.Table, spool: str, number: int, facts: Mapping[str, Any] | None = None) -> bool:
        """Adds rows as the segments of that spool up to that number. Whether it did: `False`, that number was there.

        Raises `StoreUnavailable`; to repeat it is safe.
        """
        application = f"{_APPLICATION}/{spool}"
        table = self.open()
        if table is not None and (table.transaction_version(application) or 0) >= number:
            return False
        if table is not None:
            rows = fitted(rows, pa.schema(table.schema().to_arrow()))
        properties = CommitProperties(
            custom_metadata={key: str(value) for key, value in (facts or {}).items()},
            app_transactions=[Transaction(application, number)],
        )
        try:
            write_deltalake(
                table if table is not None else self.location, rows, mode="append", schema_mode="merge",
                partition_by=["date"] if "date" in rows.column_names else None, commit_properties=properties,
                storage_options=self._options,
            )  # fmt: skip
        except (DeltaError, OSError) as error:
            raise StoreUnavailable(f"{self.location}: {_line(error)}") from error
        return True

    def arrow(self) -> pa.Table | None:
        """All rows; `None` where there is no table. Raises `StoreUnavailable`."""
        table = self.open()
        return None if table is None else table.to_pyarrow_table()

    def compact(self) -> None:
        """Puts small files together, so that a reader opens few. Rows stay as they are. Raises `StoreUnavailable`."""
        table = self.open()
        if table is not None:
            try:
                table.optimize.compact(target_size=COMPACT_BELOW_BYTES)
            except (DeltaError, OSError) as error:
                raise StoreUnavailable(f"{self.location}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]

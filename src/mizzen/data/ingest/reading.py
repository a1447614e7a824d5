"""What a source gives a load: rows, and what is known of where they came from."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mizzen.data.lake.sql import quoted
from mizzen.data.lake.version import TableVersion

FILE_COLUMN = "_file"
"""Where a row came from, of datasets that are loaded file by file."""


@dataclass(frozen=True, slots=True)
class Since:
    """Where the last load ended: only rows above this are wanted."""

    column: str
    value: Any
    """A Python value of the column's type; `None` where nothing was loaded yet."""
    or_equal: bool
    """Whether rows with this very value are wanted again, because they take the place of those that are there."""

    @property
    def operator(self) -> str:
        return ">=" if self.or_equal else ">"

    def condition(self, placeholder: str) -> str:
        """As SQL. A row without a value is always wanted, so that the load can say that there is one."""
        return f"({quoted(self.column)} {self.operator} {placeholder} OR {quoted(self.column)} IS NULL)"

    def above(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """The rows that are wanted, of a source that cannot be asked for them alone."""
        for table in tables:
            if self.value is None or self.column not in table.column_names:
                yield table
                continue
            column = table.column(self.column)
            least = pa.scalar(self.value, column.type)
            compared = pc.greater_equal(column, least) if self.or_equal else pc.greater(column, least)
            yield table.filter(pc.or_kleene(compared, column.is_null()))


@dataclass(slots=True)
class Reading:
    """A source that has been opened."""

    tables: Iterator[pa.Table]
    """The rows, all tables of one schema that a Delta table can hold."""
    untyped: bool = False
    """Whether the types are a guess from the values, as of CSV: then they give way to those that the table has."""
    files: Mapping[str, str] | None = None
    """Of a load file by file: every file that is loaded when these rows are, with what tells it from a changed one."""
    changed: frozenset[str] = field(default_factory=frozenset)
    """The files of these rows."""
    transactions: Mapping[str, int] = field(default_factory=dict)
    """How far each writer of pushed rows is taken in with these."""
    expected: Callable[[TableVersion | None], None] = lambda _: None
    """Raises `SourceMoved` where these rows cannot follow that version."""
    kept: Mapping[str, Any] = field(default_factory=dict)
    """What is to be kept with the version."""

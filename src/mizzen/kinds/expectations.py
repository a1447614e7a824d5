"""What must hold of a dataset's rows before they become a version."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mizzen.kinds.meta import Wire
from mizzen.kinds.scalars import Duration

Scalar = str | int | float | bool
Scalars = Annotated[list[Scalar], Field(json_schema_extra={"items": {"x-kubernetes-preserve-unknown-fields": True}})]
Bound = Annotated[float | str, Field(json_schema_extra={"x-mizzen-format": "bound"})]


class Expectation(Wire):
    """One check of the rows, on one column or on the whole table. Exactly one kind of check each."""

    column: str | None = None
    """The column to check; absent for `rowCount`."""
    not_null: bool | None = None
    """No row's value is null."""
    unique: bool | None = None
    """No two rows share a value (nulls aside)."""
    min: Bound | None = None
    """No value is below this (nulls aside); a number, or an RFC 3339 time for time columns."""
    max: Bound | None = None
    """No value is above this (nulls aside)."""
    in_set: Scalars | None = None
    """Every value is one of these (nulls aside)."""
    regex: str | None = None
    """Every value matches this regular expression somewhere (RE2 syntax; nulls aside)."""
    min_rows: int | None = Field(default=None, ge=0)
    """The table has at least this many rows."""
    max_rows: int | None = Field(default=None, ge=0)
    """The table has at most this many rows."""
    max_age: Duration | None = None
    """The newest value of the column (default: the event time) is at most this old."""
    on_failure: Literal["fail", "quarantine"] = "fail"
    """What happens to a load that breaks this: `fail` keeps the old version; `quarantine` sets the rows aside in a
    table of their own and commits the rest (row checks only)."""

    @model_validator(mode="after")
    def _one_check(self) -> Self:
        row = {name for name in ("not_null", "unique", "in_set", "regex") if getattr(self, name) is not None}
        if self.min is not None or self.max is not None:
            row.add("min/max")
        table = {"rows"} if self.min_rows is not None or self.max_rows is not None else set()
        age = {"max_age"} if self.max_age is not None else set()
        if len(row | table | age) != 1:
            raise ValueError(
                "expected exactly one check: notNull, unique, min and/or max, inSet, regex, "
                "minRows and/or maxRows, or maxAge"
            )
        if row and self.column is None:
            raise ValueError("expected a column for this check")
        if table and self.column is not None:
            raise ValueError("expected no column for a check of the row count")
        if (table or age) and self.on_failure == "quarantine":
            raise ValueError(
                "expected onFailure: fail, since this check is of the whole table and no row can be set aside"
            )
        return self

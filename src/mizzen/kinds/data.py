"""The data family: `Dataset`."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from mizzen.kinds.meta import AGE, MESSAGE, READY, REASON, PrinterColumn, Resource, Status, Timestamp, Wire
from mizzen.kinds.pods import PodOptions
from mizzen.kinds.scalars import Duration

PYTHON_ENTRYPOINT = r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$"
CODE_DIGEST = r"^sha256:[0-9a-f]{64}$"

Scalar = str | int | float | bool
Scalars = Annotated[list[Scalar], Field(json_schema_extra={"items": {"x-kubernetes-preserve-unknown-fields": True}})]
Bound = Annotated[float | str, Field(json_schema_extra={"x-mizzen-format": "bound"})]


class DatasetSource(Wire):
    """Where rows come from: exactly one of `python` and `files`."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["python"]}, {"required": ["files"]}]})

    python: str | None = Field(default=None, pattern=PYTHON_ENTRYPOINT)
    """A function `module:function` of the code bundle: yields or returns Arrow tables or data frames."""
    files: list[str] | None = Field(default=None, min_length=1)
    """Files or globs: `data/*.csv` (in the code bundle), `file:///…`, `s3://…`; CSV, Parquet or JSON Lines."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.python is None) == (self.files is None):
            raise ValueError("expected exactly one of python and files")
        return self


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


class DatasetSpec(PodOptions):
    """What rows the table should hold, and the Pod that loads them."""

    source: DatasetSource
    """Where rows come from."""
    code: str | None = Field(default=None, pattern=CODE_DIGEST)
    """Digest of the code bundle with the function or the files; `mizzen apply` fills it with the manifest's folder."""
    event_time: str | None = None
    """The column that says when each row happened."""
    expectations: list[Expectation] = Field(default_factory=list)
    """Checks every load must pass before it becomes a version."""


class Column(Wire):
    """One column of a table: Arrow's name of its type, and whether it may be null."""

    name: str
    type: str
    nullable: bool = True


class CheckResult(Wire):
    """How one expectation came out."""

    check: str
    """The expectation in words: `distance: min 1`."""
    passed: bool
    failed_rows: int = 0
    """Rows that broke it."""
    action: Literal["none", "fail", "quarantine"] = "none"
    """What was done about it."""
    message: str = ""
    """With an example of a value that broke it."""


class LoadReport(Wire):
    """What the loading Pod reported of one run."""

    run: str
    """The Job's name."""
    succeeded: bool
    reason: str = ""
    """One CamelCase word where it failed: `SourceFailed`, `ExpectationsFailed`, `WrongColumns`."""
    message: str = ""
    version: int | None = None
    """The table version that this run committed."""
    digest: str | None = None
    """SHA-256 over the version's schema and its rows: the same rows have the same digest, however they were written."""
    location: str | None = None
    """URL of the Delta table."""
    rows: int | None = None
    bytes: int | None = None
    columns: list[Column] = Field(default_factory=list)
    checks: list[CheckResult] = Field(default_factory=list)
    quarantined_rows: int = 0
    quarantine_location: str | None = None
    finished_at: Timestamp | None = None


class DatasetStatus(Status):
    """The version that is served, and how the last load went."""

    version: int | None = None
    """The table version that readers get."""
    digest: str | None = None
    location: str | None = None
    rows: int | None = None
    bytes: int | None = None
    columns: list[Column] = Field(default_factory=list)
    checks: list[CheckResult] = Field(default_factory=list)
    quarantined_rows: int | None = None
    quarantine_location: str | None = None
    loaded_at: Timestamp | None = None
    loaded_generation: int | None = None
    """The `metadata.generation` whose load made this version."""
    current_run: str | None = None
    """The Job that is at work or was last."""
    last_run: LoadReport | None = None
    """Written by the loading Pod; the controller makes it the served version when it succeeded."""


class Dataset(Resource):
    """Rows under a name: loaded by a Job, checked, and kept as versions of one table."""

    plural: ClassVar[str] = "datasets"
    short_names: ClassVar[tuple[str, ...]] = ("dset",)
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn("Version", ".status.version", "integer"),
        PrinterColumn("Rows", ".status.rows", "integer"),
        READY, REASON,
        PrinterColumn("Bytes", ".status.bytes", "integer", priority=1),
        MESSAGE, AGE,
    )  # fmt: skip

    kind: Literal["Dataset"] = "Dataset"
    spec: DatasetSpec
    status: DatasetStatus = Field(default_factory=DatasetStatus)

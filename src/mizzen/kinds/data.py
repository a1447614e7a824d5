"""The data family: `Dataset`."""

from typing import ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from mizzen.kinds.expectations import Expectation
from mizzen.kinds.meta import AGE, MESSAGE, READY, REASON, PrinterColumn, Resource, Status, Timestamp, Wire
from mizzen.kinds.pods import PodOptions
from mizzen.kinds.scalars import Duration

PYTHON_ENTRYPOINT = r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$"
CODE_DIGEST = r"^sha256:[0-9a-f]{64}$"

ColumnType = Literal["boolean", "integer", "double", "string", "timestamp", "date", "binary"]
"""Of pushed columns: 64-bit integers and floats, text, times with a zone (microseconds), days, base64 of bytes."""

DATASET_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
DATABASE_URL = r"^(postgresql|postgres|sqlite)://"
ENV_NAME = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"


class InputDataset(Wire):
    """Another dataset of the namespace that a query reads."""

    name: str = Field(pattern=DATASET_NAME)
    """The dataset, and the name of its table in the query."""
    version: int | None = Field(default=None, ge=1)
    """Absent: the version served when the load starts; the load records which one that was."""


class SqlSource(Wire):
    """A query: over other datasets (DuckDB's SQL), or in a database (its own SQL)."""

    query: str = Field(min_length=1)
    """A SELECT."""
    datasets: list[InputDataset] = Field(default_factory=list)
    """The datasets that the query reads, each a table under its name; the load waits until all of them have rows."""
    database: str | None = Field(default=None, pattern=DATABASE_URL)
    """Where the query runs instead: `postgresql://host/db` or `sqlite:///path`. Keep passwords out: see databaseEnv."""
    database_env: str | None = Field(default=None, pattern=ENV_NAME)
    """The variable of `spec.env` that holds the database's URL, so that a password stays in its Secret."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (bool(self.datasets)) + (self.database is not None) + (self.database_env is not None) > 1:
            raise ValueError("expected at most one of datasets, database and databaseEnv")
        names = [dataset.name for dataset in self.datasets]
        if len(names) != len(set(names)):
            raise ValueError("expected each dataset once in datasets")
        return self


class PushColumn(Wire):
    """A column of pushed rows."""

    name: str = Field(min_length=1)
    type: ColumnType
    """Values of another type are refused with their row."""
    required: bool = False
    """A row without it is refused."""


class PushSource(Wire):
    """Rows that come over HTTP, one request at a time; each is kept before it is acknowledged."""

    columns: list[PushColumn] = Field(min_length=1)
    """The columns of the rows."""
    commit_every: Duration = "5s"
    """The longest that an acknowledged row waits for its version: rows of many requests become one commit."""

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [column.name.casefold() for column in self.columns]
        if len(names) != len(set(names)):
            raise ValueError("expected columns whose names differ in more than case")
        return self


SOURCES = ("python", "files", "sql", "push", "batchPrediction")


class DatasetSource(Wire):
    """Where rows come from: exactly one of `python`, `files`, `sql`, `push` and `batchPrediction`."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [name]} for name in SOURCES]})

    python: str | None = Field(default=None, pattern=PYTHON_ENTRYPOINT)
    """A function `module:function` of the code bundle: yields or returns Arrow tables or data frames. Where it has a
    parameter `since`, it is given the greatest value of `load.watermark` that was loaded (`None` at first)."""
    files: list[str] | None = Field(default=None, min_length=1)
    """Files or globs: `data/*.csv` (in the code bundle), `file:///…`, `s3://…`, `gs://…`, `az://…`; CSV, TSV, Parquet,
    JSON Lines or Arrow IPC."""
    sql: SqlSource | None = None
    """A query over other datasets or in a database."""
    push: PushSource | None = None
    """Rows that programs send."""
    batch_prediction: str | None = Field(default=None, pattern=DATASET_NAME)
    """The `BatchPrediction` of the namespace whose answers these rows are."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = (self.python, self.files, self.sql, self.push, self.batch_prediction)
        if sum(source is not None for source in given) != 1:
            raise ValueError("expected exactly one of python, files, sql, push and batchPrediction")
        return self


class LoadOptions(Wire):
    """How a load's rows meet those that are there."""

    mode: Literal["replace", "append", "upsert"] = "replace"
    """`replace`: the load is the whole content. `append`: its rows are added. `upsert`: its rows are added, and those
    that were there under the same key go. Rows of a `push` source are appended unless this says `upsert`."""
    key: list[str] = Field(default_factory=list)
    """The columns that name a row, for `upsert`. Of rows of one load with the same key, the last one stays: by
    `eventTime` where there is one, else as they came."""
    new_files: bool = False
    """Of a `files` source, read only files that are new or have changed. Each row says in the column `_file` where it
    came from, and the rows of a file that has changed take the place of those it had before."""
    watermark: str | None = None
    """A column that only grows, such as a time of change: read only rows above the greatest value that was loaded
    (for `upsert`, also those equal to it)."""
    on_new_schema: Literal["fail", "addColumns", "cast"] | None = None
    """What happens when the source's columns are not those of the version before: `fail`; `addColumns`, where older
    rows have nulls; or `cast`, which also converts values to the column's type where each of them survives it.
    By default, `replace` takes whatever comes, and the others fail."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.mode == "upsert") != bool(self.key):
            raise ValueError("expected key for mode: upsert, and for no other")
        if self.mode == "replace" and (self.new_files or self.watermark is not None):
            raise ValueError("expected mode: append or upsert with newFiles or watermark, since those read a part")
        if self.new_files and (self.watermark is not None or self.mode != "append"):
            raise ValueError("expected newFiles alone, with mode: append")
        return self


class RefreshOptions(Wire):
    """When to load again while the spec stays as it is. `mizzen data load NAME` does so at any time."""

    every: Duration | None = None
    """This often, counted from 1970 in UTC: `24h` is at midnight."""
    on_input: bool = False
    """Of a `sql` source: whenever a dataset that it reads has a new version."""


class RetentionOptions(Wire):
    """How long versions are kept; without either, for ever. The newest is kept in any case."""

    versions: int | None = Field(default=None, ge=1)
    """At least this many of the newest are kept."""
    age: Duration | None = None
    """Versions at most this old are kept."""


class ColumnOptions(Wire):
    """What is known of a column beyond its type."""

    description: str | None = None
    personal: Literal["identifier", "sensitive", "indirect"] | None = None
    """Whether it holds data of persons: it names one (`identifier`), is of a special category such as health
    (`sensitive`), or says something of one (`indirect`). Values of such a column are shown in no profile, message or
    lineage event."""
    residency: list[str] = Field(default_factory=list)
    """Where its values may be kept: regions or countries, such as `eu`. Empty: anywhere."""
    tags: list[str] = Field(default_factory=list)


class DatasetSpec(PodOptions):
    """What rows the table should hold, and the Pod that loads them."""

    source: DatasetSource
    """Where rows come from."""
    code: str | None = Field(default=None, pattern=CODE_DIGEST)
    """Digest of the code bundle with the function or the files; `mizzen apply` fills it with the manifest's folder."""
    event_time: str | None = None
    """The column that says when each row happened; its values have a time zone."""
    time_zone: str | None = None
    """The time zone of event times that come without one, such as `UTC` or `Europe/Berlin`."""
    load: LoadOptions = Field(default_factory=LoadOptions)
    """How a load's rows meet those that are there."""
    refresh: RefreshOptions = Field(default_factory=RefreshOptions)
    """When to load again."""
    partition_by: list[str] = Field(default_factory=list)
    """Columns of few values: rows are kept in a folder for each, and a query that asks for one reads only that."""
    retention: RetentionOptions = Field(default_factory=RetentionOptions)
    """How long versions are kept."""
    columns: dict[str, ColumnOptions] = Field(default_factory=dict)
    """What is known of columns: personal data, residency, tags."""
    expectations: list[Expectation] = Field(default_factory=list)
    """Checks every load must pass before it becomes a version."""

    @property
    def inputs(self) -> dict[str, int | None]:
        """The datasets that a query reads, each with the version asked for, if any."""
        sql = self.source.sql
        return {wanted.name: wanted.version for wanted in sql.datasets} if sql is not None else {}

    @model_validator(mode="after")
    def _source_fits_load(self) -> Self:
        if self.load.new_files and self.source.files is None:
            raise ValueError("load.newFiles: expected a source of files")
        if self.load.watermark is not None and self.source.push is not None:
            raise ValueError("load.watermark: expected a source that is read, found push")
        if self.refresh.on_input and not (self.source.sql is not None and self.source.sql.datasets):
            raise ValueError("refresh.onInput: expected a sql source with datasets")
        if self.source.batch_prediction is not None and (self.expectations or self.load != LoadOptions()):
            raise ValueError(
                "source.batchPrediction: expected neither expectations nor load: its run says what it adds"
            )
        if self.time_zone is not None and self.event_time is None:
            raise ValueError("timeZone: expected eventTime, whose zone this is")
        return self


class Column(Wire):
    """One column of a table: Arrow's name of its type, and whether it may be null."""

    name: str
    type: str
    nullable: bool = True
    personal: str | None = None
    residency: list[str] = Field(default_factory=list)
    tags: list[str] = Field(default_factory=list)


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


class InputVersion(Wire):
    """A dataset that was read, at the version that was read."""

    name: str
    version: int
    digest: str | None = None


class ModelUsed(Wire):
    """The model version whose answers rows are."""

    name: str
    """Of the `ModelVersion`."""
    model: str
    version: int
    digest: str


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
    operation: str = ""
    """What the commit did: `replace`, `append`, `upsert`, `restore`, or `nothing new`."""
    rows_added: int | None = None
    inputs: list[InputVersion] = Field(default_factory=list)
    """The datasets that a query read, or whose rows were predicted."""
    model: ModelUsed | None = None
    """Of predictions: who made them."""
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
    inputs: list[InputVersion] = Field(default_factory=list)
    """The datasets that the served version was made from, for a `sql` or `batchPrediction` source."""
    model: ModelUsed | None = None
    """The model version whose answers the served version holds, for a `batchPrediction` source."""
    push_url: str | None = None
    """Where rows are sent to, for a `push` source."""
    loaded_at: Timestamp | None = None
    loaded_generation: int | None = None
    """The `metadata.generation` whose load made this version."""
    current_run: str | None = None
    """The Job that is at work or was last."""
    current_request: str | None = None
    """The request for a load that the Job answers; absent where the spec asked for it."""
    settled_run: str | None = None
    """The last Job that the spec asked for and that has ended, well or not."""
    settled_request: str | None = None
    """The last request for a load (annotation `mizzen.dev/load`) that was answered."""
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

    @model_validator(mode="after")
    def _not_its_own_input(self) -> Self:
        if self.metadata.name is not None and self.metadata.name in self.spec.inputs:
            raise ValueError("spec.source.sql.datasets: expected other datasets, found this one itself")
        return self

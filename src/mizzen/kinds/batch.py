"""The serve family, second part: `BatchPrediction`, a model's answers for the rows of a dataset."""

import re
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, model_validator

from mizzen.kinds.cron import Cron
from mizzen.kinds.data import DATASET_NAME, InputVersion, ModelUsed
from mizzen.kinds.meta import (
    AGE,
    DNS_LABEL,
    MESSAGE,
    READY,
    REASON,
    PrinterColumn,
    Resource,
    Status,
    Timestamp,
    Wire,
)
from mizzen.kinds.names import ModelReference
from mizzen.kinds.pods import PodOptions, Resources
from mizzen.kinds.scalars import Duration
from mizzen.kinds.zones import zone

ERROR_LIMIT = r"^([0-9]+|[0-9]+(\.[0-9]+)?%)$"
ERROR_COLUMN = "error"
_OUTPUT = re.compile(r"^(?P<name>.+?)(\[(?P<index>[0-9]+)\])?$")


def _checked_cron(text: str) -> str:
    Cron.parse(text)
    return text


def _checked_zone(text: str) -> str:
    zone(text)
    return text


def _checked_reference(text: str) -> str:
    ModelReference.parse(text)
    return text


class BatchInput(Wire):
    """Which rows are predicted."""

    dataset: str = Field(pattern=DATASET_NAME)
    """A dataset of the namespace."""
    version: int | None = Field(default=None, ge=1)
    """Absent: the version served when the run starts; the run records which one that was."""
    where: str | None = Field(default=None, min_length=1)
    """A condition in DuckDB's SQL over the dataset's columns: only rows of which it is true are predicted."""
    columns: dict[str, str] = Field(default_factory=dict)
    """The dataset's column for a column of the model, where they are not called the same: `{dist: distance}`."""


class PredictedColumn(Wire):
    """One output of the model as a column."""

    output: str = Field(min_length=1)
    """The output's name: `label`; `probabilities[1]` is the second of the values that it has for a row."""
    name: str = Field(min_length=1)
    """The column's name."""

    @property
    def source(self) -> tuple[str, int | None]:
        """The output, and which of its values; `None`: all.

        >>> PredictedColumn(output="probabilities[1]", name="p").source
        ('probabilities', 1)
        """
        match = _OUTPUT.match(self.output)
        assert match is not None, "the pattern takes any text"
        return match["name"], int(match["index"]) if match["index"] is not None else None


class BatchCache(Wire):
    """An endpoint's response cache that is to know the answers: one of `spec.cache` with `redis: true`. The Redis is
    that of the variable `MIZZEN_CACHE_REDIS` in `spec.env`, as its gateways have it."""

    endpoint: str = Field(pattern=DNS_LABEL)
    """It finds them for requests of one row while it serves the model version of the run."""
    callers: list[str] = Field(default_factory=list, max_length=100)
    """Names of API keys (their Secrets): each finds the answers. Of an endpoint that anyone may call: none."""


class BatchOutput(Wire):
    """Where the answers go: a version of a dataset, made once by the whole run."""

    dataset: str = Field(pattern=DATASET_NAME)
    """A dataset of which this BatchPrediction is the source; made where there is none of that name."""
    mode: Literal["replace", "append"] = "replace"
    """`replace`: a run's rows are the whole content of the version. `append`: they come after those of earlier runs."""
    keep: list[str] | None = None
    """Columns of the input that the output has too, before the predictions; absent: all of them."""
    predictions: list[PredictedColumn] = Field(default_factory=list)
    """Which of the model's outputs become columns; empty: each, under its own name."""
    errors: Literal["column", "quarantine"] = "column"
    """Rows that the model refuses. `column`: they are in the output, without predictions, and the column `error` says
    why; it is null for all others. `quarantine`: they are set aside in the dataset's quarantine table."""

    cache: BatchCache | None = None
    """Where the answers go too, so that requests find them."""

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [*(self.keep or ()), *(column.name for column in self.predictions)]
        names += [ERROR_COLUMN] if self.errors == "column" else []
        twice = sorted({name for name in names if [each.casefold() for each in names].count(name.casefold()) > 1})
        if twice:
            raise ValueError(f"expected columns whose names differ in more than case, got {', '.join(twice)} twice")
        return self


class BatchSchedule(Wire):
    """When runs begin: as a CronJob's, but for daylight saving (docs/batch-prediction.md)."""

    cron: Annotated[str, AfterValidator(_checked_cron)] = Field(
        json_schema_extra={"pattern": r"^(@[a-z]+|\S+(\s+\S+){4})$"}
    )
    """Five fields, `30 2 * * *`, or `@daily`, `@hourly`, …"""
    time_zone: Annotated[str, AfterValidator(_checked_zone)] = "UTC"
    """IANA name: `Europe/Berlin`. A time that daylight saving skips comes at the end of the gap, one that it repeats
    once; with an hour of `*` the schedule goes by the clock as it runs."""
    concurrency_policy: Literal["Allow", "Forbid", "Replace"] = "Forbid"
    """What happens when a run is due and one is at work: both go on; the new one waits; the old one is ended."""
    starting_deadline: Duration | None = None
    """A run that could not begin this long after its time is left out; absent: it begins as soon as it can. Of several
    that were missed, only the last one is made up for."""


class BatchHistory(Wire):
    """How many ended runs the status and the namespace keep."""

    succeeded: int = Field(default=3, ge=0, le=100)
    failed: int = Field(default=3, ge=0, le=100)


_RULES: list[JsonValue] = [
    {
        "rule": "has(self.model) != has(self.endpoint)",
        "message": "expected exactly one of model and endpoint",
    },
    {
        "rule": "!has(self.through) || self.through != 'endpoint' || has(self.endpoint)",
        "message": "through: endpoint needs spec.endpoint, whose workers are to be used",
    },
    {
        "rule": "self.input.dataset != self.output.dataset",
        "message": "expected another dataset for the output than the input",
    },
]


class BatchPredictionSpec(PodOptions):
    """Which model answers which rows, where the answers go, and when."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": _RULES})

    model: Annotated[str, AfterValidator(_checked_reference)] | None = Field(
        default=None,
        json_schema_extra={"pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(@[a-z][-a-z0-9]*|:[1-9][0-9]*)$"},
    )
    """`name@alias` (the version that it points to when a run starts) or `name:version`."""
    endpoint: str | None = Field(default=None, pattern=DNS_LABEL)
    """Instead: the version that this endpoint serves when a run starts."""
    input: BatchInput
    """Which rows."""
    output: BatchOutput
    """Where the answers go."""
    through: Literal["endpoint", "own"] | None = None
    """`own`: workers of the run's own, on processors that nobody else wants. `endpoint`: the endpoint's workers, by its
    queue, behind everybody else. Absent: `endpoint` where one is named."""
    parallelism: int = Field(default=1, ge=1, le=256)
    """Pods at work at once, each on a part of the rows."""
    batch_rows: int = Field(default=1024, ge=1, le=65536)
    """Rows that a worker is given at once."""
    group_rows: int = Field(default=16384, ge=1, le=1_000_000)
    """Rows whose answers are kept together as they come: what a run that was killed computes again at most, for each
    Pod."""
    error_limit: str | None = Field(default=None, pattern=ERROR_LIMIT)
    """A run fails when the model has refused more rows than this: `100`, or `1%` of all rows. Absent: only when it
    refuses every row."""
    schedule: BatchSchedule | None = None
    """When runs begin. Absent: one run, at once, and again when the spec is changed."""
    background: bool = True
    """Its processes run on processors that nobody else wants just then: its Pods ask for none, whatever `resources`
    says. Without it they have their share."""
    suspend: bool = False
    """No run begins; those at work go on."""
    history: BatchHistory = Field(default_factory=BatchHistory)
    """How many ended runs are kept."""
    resources: Resources = Field(default_factory=lambda: Resources(cpu="500m", memory="1Gi"))
    """Of each Pod, its worker included."""
    retries: int = Field(default=6, ge=0, le=100)
    """How often a Pod that was lost or killed is started again; it goes on where it was."""

    @property
    def way(self) -> Literal["endpoint", "own"]:
        """How rows reach a worker."""
        return self.through or ("endpoint" if self.endpoint is not None else "own")

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.model is None) == (self.endpoint is None):
            raise ValueError("expected exactly one of model and endpoint")
        if self.through == "endpoint" and self.endpoint is None:
            raise ValueError("through: endpoint needs spec.endpoint, whose workers are to be used")
        if self.input.dataset == self.output.dataset:
            raise ValueError("output.dataset: expected another dataset than the input's")
        return self


class BatchRun(Wire):
    """One run: what it was to do, fixed when it started, and how it went."""

    name: str
    """Of its Job."""
    occasion: str
    """Why it was made: `spec …`, `scheduled …` or `asked …`."""
    phase: Literal["Starting", "Running", "Succeeded", "Failed", "Replaced"]
    model: ModelUsed
    input: InputVersion
    input_rows: int | None = None
    """Of the whole version, before `where`."""
    work: str = ""
    """Digest of what decides its answers: the model, the input, and what the spec says of both."""
    kept_in: str = ""
    """Where it keeps its answers: under the name of the run that began this work."""
    output_version: int | None = None
    """The version of the output dataset that it made."""
    rows: int | None = None
    """Of the output: predicted, and where they are kept there, refused."""
    failed_rows: int = 0
    """That the model refused."""
    rows_per_s: float | None = None
    scheduled_for: Timestamp | None = None
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    reason: str = ""
    message: str = ""

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.phase in {"Starting", "Running"}


class BatchShard(Wire):
    """What one Pod of a run reports while it works."""

    rows_total: int = 0
    """Rows of the input that are its part."""
    rows_done: int = 0
    """Of those, whose answers are kept."""
    failed_rows: int = 0
    rows_per_s: float = 0.0
    """Over the last seconds."""
    waits: str = ""
    """What it waits for, where it does: a busy endpoint, a worker that is started."""
    updated_at: Timestamp | None = None


class BatchResult(Wire):
    """How a run ended, as its last Pod reported."""

    succeeded: bool
    reason: str = ""
    """One CamelCase word where it failed: `MissingColumns`, `TooManyErrors`, `OutputUnfit`."""
    message: str = ""
    version: int | None = None
    rows: int | None = None
    failed_rows: int = 0
    example: str = ""
    """Why one of the refused rows was refused."""


class BatchProgress(Wire):
    """How far the runs that are at work have come, together."""

    percent: int = 0
    rows_done: int = 0
    rows_total: int = 0
    failed_rows: int = 0
    rows_per_s: float = 0.0
    done_at: Timestamp | None = None
    """When it will be done at this rate."""
    waits: str = ""


class BatchPredictionStatus(Status):
    """The runs, and how far those at work have come."""

    phase: Literal["Waiting", "Scheduled", "Suspended", "Running", "Succeeded", "Failed"] | None = None
    current_run: str | None = None
    """The newest run."""
    runs: list[BatchRun] = Field(default_factory=list)
    """The newest first: all that are at work, and as many that have ended as `history` says."""
    progress: BatchProgress | None = None
    """While a run is at work."""
    output_version: int | None = None
    """The version of the output dataset that the last run that succeeded made."""
    last_schedule_time: Timestamp | None = None
    """The time of the last run that the schedule began."""
    next_schedule_time: Timestamp | None = None
    last_successful_time: Timestamp | None = None
    settled_until: Timestamp | None = None
    """Times of the schedule up to this one were run, or left out."""
    settled_spec: str | None = None
    """Digest of the spec that was run last, where there is no schedule."""
    settled_request: str | None = None
    """The last request for a run (annotation `mizzen.dev/run`) that was answered."""
    shards: dict[str, BatchShard] = Field(default_factory=dict)
    """By `RUN/INDEX`; written by the Pods."""
    results: dict[str, BatchResult] = Field(default_factory=dict)
    """By run; written by the Pods."""


class BatchPrediction(Resource):
    """A model's answers for the rows of a dataset, as versions of another: once, or by a schedule."""

    plural: ClassVar[str] = "batchpredictions"
    short_names: ClassVar[tuple[str, ...]] = ("bp",)
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn("Phase", ".status.phase"),
        PrinterColumn("Done%", ".status.progress.percent", "integer"),
        PrinterColumn("Rows/s", ".status.progress.rowsPerS", "number"),
        PrinterColumn("Version", ".status.outputVersion", "integer"),
        PrinterColumn("Schedule", ".spec.schedule.cron"),
        READY, REASON,
        PrinterColumn("Next", ".status.nextScheduleTime", priority=1),
        PrinterColumn("Output", ".spec.output.dataset", priority=1),
        MESSAGE, AGE,
    )  # fmt: skip

    kind: Literal["BatchPrediction"] = "BatchPrediction"
    spec: BatchPredictionSpec
    status: BatchPredictionStatus = Field(default_factory=BatchPredictionStatus)

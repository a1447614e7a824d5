"""The feature family: `FeatureView`.

A view says what is known of an entity at a moment: columns of its newest row, expressions over that row, aggregations
of its events in windows, and what only a request can tell. One definition serves backfill, increments and online reads.
"""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from mizzen.kinds.data import CODE_DIGEST, PYTHON_ENTRYPOINT, Column
from mizzen.kinds.meta import AGE, DNS_LABEL, MESSAGE, READY, REASON, PrinterColumn, Resource, Status, Timestamp, Wire
from mizzen.kinds.pods import PodOptions
from mizzen.kinds.scalars import Duration, duration_s
from mizzen.kinds.skew import SkewAudit, SkewReport

FEATURE_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
FEATURE_TYPE = (
    r"^(boolean|int8|int16|int32|int64|float32|float64|text|bytes|time|date"
    r"|vector\((float32|float64), ?[1-9][0-9]{0,4}\)|list\((boolean|int64|float64|text)\))$"
)
FeatureName = Annotated[str, Field(pattern=FEATURE_NAME, max_length=128)]
FeatureType = Annotated[str, Field(pattern=FEATURE_TYPE)]
"""`int64`, `float32`, `text`, `time`, `vector(float32, 128)`, `list(text)`, …"""
Default = Annotated[str | int | float | bool | None, Field()]
Function = Literal[
    "count", "rate", "sum", "mean", "min", "max", "first", "last", "last_k", "std", "variance", "distinct",
    "approximate_distinct", "quantile", "top_k", "time_since_last",
]  # fmt: skip
_COUNTS_EVENTS = frozenset({"count", "rate", "time_since_last"})
"""May be of the events themselves; every other function is of a column."""
_NOT_OF_THE_VALUES = frozenset(
    {
        "resources",
        "env",
        "timeout",
        "retries",
        "nodeSelector",
        "owner",
        "description",
        "tags",
        "online",
        "audit",
        "parts",
    }
)
_NONE_USED: Mapping[str, str] = MappingProxyType({})


class Described(Wire):
    """What is said of a feature for those who read it."""

    description: str = ""
    tags: dict[str, str] = Field(default_factory=dict)


class Entity(Wire):
    """One key of what the features are about."""

    name: str = Field(pattern=FEATURE_NAME)
    """The key's name in requests."""
    column: str | None = None
    """The source's column that holds it, where it has another name."""
    type: Literal["text", "int64"] | None = None
    """By default the column's own."""


class FeatureSource(Wire):
    """Where the events come from: exactly one of `dataset` and `stream`."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["dataset"]}, {"required": ["stream"]}]})

    dataset: str | None = Field(default=None, pattern=DNS_LABEL)
    """A Dataset of the same namespace."""
    stream: str | None = Field(default=None, pattern=DNS_LABEL)
    """A Stream of the same namespace."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.dataset is None) == (self.stream is None):
            raise ValueError("expected exactly one of dataset and stream")
        return self


class ColumnFeature(Described):
    """A feature of the entity's newest row: a column, or an expression over the row."""

    name: FeatureName
    """The feature's name, and the column's where nothing else is said."""
    expression: str | None = Field(default=None, min_length=1)
    """SQL over the row: `amount / nullif(limit, 0)`."""
    type: FeatureType | None = None
    """By default what the column or the expression gives."""
    default: Default = None
    """Where there is no row or no value."""


class AggregationFeature(Described):
    """A feature of the entity's events in a window. With `windows`, one a window, named `NAME_WINDOW`."""

    name: FeatureName
    function: Function
    """How values are summed up. NaN and null are left out by all of them."""
    column: str | None = None
    """Whose values; `count`, `rate` and `time_since_last` may do without, and are of the events then."""
    expression: str | None = Field(default=None, min_length=1)
    """In the place of a column: SQL over the row."""
    window: Duration | None = None
    """How far back; absent, since ever."""
    windows: list[Duration] = Field(default_factory=list)
    """Several windows of one feature."""
    hop: Duration | None = None
    """How far the window's tail moves at a time, so that less has to be kept; absent, it slides, as the head does."""
    where: str | None = Field(default=None, min_length=1)
    """Which events count: SQL over the row."""
    k: int | None = Field(default=None, ge=1, le=10_000)
    """Of `last_k` and `top_k`."""
    quantile: float | None = Field(default=None, ge=0, le=1)
    """Of `quantile`: which."""
    default: Default = None
    """Where there is no value."""

    @model_validator(mode="after")
    def _meaningful(self) -> Self:
        if self.column is not None and self.expression is not None:
            raise ValueError("expected a column or an expression, found both")
        if self.column is None and self.expression is None and self.function not in _COUNTS_EVENTS:
            raise ValueError(f"expected a column or an expression for {self.function}")
        if self.window is not None and self.windows:
            raise ValueError("expected window or windows, found both")
        lengths = self.windows or ([self.window] if self.window is not None else [])
        for length in lengths:
            if duration_s(length) < 1e-6:
                raise ValueError(f"expected windows longer than nothing, found {length}")
            if self.hop is not None and not 0 < duration_s(self.hop) <= duration_s(length):
                raise ValueError(f"expected a hop above 0 and at most the window {length}, found {self.hop}")
        if len({duration_s(length) for length in lengths}) != len(lengths):
            raise ValueError("expected windows that differ")
        if self.hop is not None and not lengths:
            raise ValueError("expected no hop for a feature without a window")
        if self.function == "rate" and not lengths:
            raise ValueError("expected a window for rate")
        if (self.k is not None) != (self.function in {"last_k", "top_k"}):
            raise ValueError("expected k for last_k and top_k, and for nothing else")
        if (self.quantile is not None) != (self.function == "quantile"):
            raise ValueError("expected quantile (from 0 to 1) for the function quantile, and for nothing else")
        return self

    def names(self) -> list[str]:
        """The features this makes."""
        return [f"{self.name}_{window}" for window in self.windows] or [self.name]


class RequestFeature(Described):
    """A feature that only a request can tell: a function of its columns and of stored features, on whole columns."""

    name: FeatureName
    function: str = Field(pattern=PYTHON_ENTRYPOINT)
    """`module:function` of the code bundle; takes the inputs as NumPy arrays by name and returns one."""
    inputs: list[str] = Field(min_length=1)
    """Columns of the request, features of this view, and `VIEW.FEATURE` of views in `uses`."""
    type: FeatureType = "float64"
    default: Default = None


class FeatureViewSpec(PodOptions):
    """What is known of an entity at a moment, and how it is worked out."""

    entities: list[str | Entity] = Field(min_length=1, max_length=8)
    """The keys, by name where the column has the same."""
    source: FeatureSource
    """Where the events come from."""
    event_time: str = Field(min_length=1)
    """The column that says when each event happened."""
    known_at: str | None = None
    """The column that says since when each event is known; absent, when it was taken in. Null: not known yet."""
    time_zone: str | None = None
    """Of times without one: `UTC`, `Europe/Paris`. Without it, such times are refused."""
    where: str | None = Field(default=None, min_length=1)
    """Which rows of the source are events: SQL over the row."""
    columns: list[str | ColumnFeature] = Field(default_factory=list)
    """Features of the newest row."""
    aggregations: list[AggregationFeature] = Field(default_factory=list)
    """Features of the events in windows."""
    request: list[RequestFeature] = Field(default_factory=list)
    """Features of the request."""
    uses: list[Annotated[str, Field(pattern=DNS_LABEL)]] = Field(default_factory=list)
    """Views whose features this one builds upon, by the same entities or some of them."""
    ttl: Duration | None = None
    """For how long the newest row counts; absent, for ever."""
    online: bool = True
    """Whether the features are kept for reads in milliseconds."""
    parts: int = Field(default=1, ge=1, le=1000)
    """How many Pods fill the online store with a definition the first time, each for its share of the entities; what is
    in it is the same. What comes after is one Pod's."""
    audit: SkewAudit | None = None
    """Compares a sample of online reads with the offline computation; absent: it does not."""
    code: str | None = Field(default=None, pattern=CODE_DIGEST)
    """Digest of the code bundle with the functions; `mizzen apply` fills it with the manifest's folder."""
    owner: str = ""
    """Who answers for it."""
    description: str = ""
    tags: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not (self.columns or self.aggregations or self.request):
            raise ValueError("expected features: columns, aggregations or request")
        keys = [entity if isinstance(entity, str) else entity.name for entity in self.entities]
        names = [*keys, *self.feature_names()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"expected names that differ, found {', '.join(twice)} more than once")
        if self.ttl is not None and duration_s(self.ttl) < 1e-6:
            raise ValueError(f"ttl: expected longer than nothing, found {self.ttl}")
        for feature in self.request:
            if feature.name in feature.inputs:
                raise ValueError(f"{feature.name}: expected other inputs than itself")
        return self

    def feature_names(self) -> list[str]:
        """Every feature, in the order in which they are declared: columns, aggregations, request."""
        columns = [column if isinstance(column, str) else column.name for column in self.columns]
        windows = [name for aggregation in self.aggregations for name in aggregation.names()]
        return [*columns, *windows, *(feature.name for feature in self.request)]

    def digest(self, used: Mapping[str, str] = _NONE_USED) -> str:
        """`sha256:…` of what decides the values and of nothing else; `used` are the digests of the views it uses.

        A changed description keeps it, a changed window does not, here or in a view that this one builds upon.
        """
        wire: dict[str, Any] = {name: value for name, value in self.to_wire().items() if name not in _NOT_OF_THE_VALUES}
        if not self.request:
            wire.pop("code", None)
        for feature in [*wire.get("columns", ()), *wire.get("aggregations", ()), *wire.get("request", ())]:
            if isinstance(feature, dict):
                feature.pop("description", None)
                feature.pop("tags", None)
        if self.uses:
            wire["uses"] = {name: used.get(name, "") for name in sorted(self.uses)}
        text = json.dumps(wire, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


class MaterialisationReport(Wire):
    """What the Pod that brings a view online reported of one run."""

    run: str
    """The Job's name."""
    succeeded: bool
    reason: str = ""
    """One CamelCase word where it failed: `InvalidDefinition`, `RowsUnfit`, `OnlineStoreUnavailable`."""
    message: str = ""
    digest: str | None = None
    """Of the definition that is online now."""
    source_version: int | None = None
    features: list[Column] = Field(default_factory=list)
    rows: int | None = None
    """Events that are in, in all."""
    rows_read: int | None = None
    """Rows that this run read."""
    entities: int | None = None
    newest_event: Timestamp | None = None
    incarnation: str | None = None
    """Of the online store: another one where it came back empty."""
    finished_at: Timestamp | None = None


class FeatureViewStatus(Status):
    """The version that is served, and how far it has come."""

    version: str | None = None
    """Content address of the definition that readers get: the first 12 hex digits of its digest. While a changed
    definition is brought online, or cannot be, the one before stays served."""
    digest: str | None = None
    features: list[Column] = Field(default_factory=list)
    """Names and types."""
    source_version: int | None = None
    """The version of the source's table that is online."""
    lag: int | None = None
    """How many versions of the source are newer than that."""
    rows: int | None = None
    """Events that were taken in."""
    entities: int | None = None
    """Entities that are online."""
    newest_event: Timestamp | None = None
    """The time of the newest event that is online: how fresh the features are."""
    materialised_at: Timestamp | None = None
    incarnation: str | None = None
    """Of the online store that holds it: another one where the store came back empty, and is filled again."""
    last_error: str | None = None
    """Why the last run failed, where it did."""
    used_by: list[str] = Field(default_factory=list)
    """Who reads it, as `kind/name`; while anybody does, it is not deleted."""
    current_run: str | None = None
    """The Job that is at work or was last."""
    settled_run: str | None = None
    """The last Job whose end is known, well or not."""
    failures: int = 0
    """How many runs in a row failed in a way that trying again may mend."""
    failed_runs: int = 0
    """How many did so ever."""
    retry_at: Timestamp | None = None
    """When the next try is made."""
    last_run: MaterialisationReport | None = None
    """Written by the Pod; the controller makes it what is served when it succeeded."""
    skew: SkewReport | None = None
    """Of the last audit."""


class FeatureView(Resource):
    """Features of an entity, defined once for training and serving."""

    plural: ClassVar[str] = "featureviews"
    short_names: ClassVar[tuple[str, ...]] = ("fv",)
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn("Version", ".status.version"),
        PrinterColumn("Entities", ".status.entities", "integer"),
        PrinterColumn("Newest", ".status.newestEvent", "date"),
        PrinterColumn("Lag", ".status.lag", "integer"),
        READY, REASON, MESSAGE, AGE,
    )  # fmt: skip

    kind: Literal["FeatureView"] = "FeatureView"
    spec: FeatureViewSpec
    status: FeatureViewStatus = Field(default_factory=FeatureViewStatus)

    @model_validator(mode="after")
    def _not_of_itself(self) -> Self:
        if self.name and self.name in self.spec.uses:
            raise ValueError(f"spec.uses: expected other views than {self.name} itself")
        return self

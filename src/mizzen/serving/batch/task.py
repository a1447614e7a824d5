"""What a Pod of a batch prediction is told, and to whom it tells how it goes."""

from collections.abc import Callable
from datetime import datetime
from typing import Literal, Protocol

from pydantic import Field

from mizzen.kinds.batch import BatchOutput, BatchResult, BatchShard
from mizzen.kinds.build import ModelFormat, Signature
from mizzen.kinds.data import Column, InputVersion, LoadReport, ModelUsed, RetentionOptions
from mizzen.kinds.meta import Wire

Clock = Callable[[], datetime]
FOLDER = "runs"
"""Of the store: what runs keep until they have succeeded."""


class EndpointAddress(Wire):
    """The endpoint whose workers are used."""

    name: str
    url: str
    """Of the endpoint, without the version: `http://…/v2/models/NAME`."""
    batch_rows_max: int
    """Rows of one of its batches."""
    workers: int = 1
    """It had when the run started."""


class CacheTarget(Wire):
    """An endpoint's response cache that is to be filled."""

    endpoint: str
    callers: list[str]
    """Names of API keys; one empty name where anyone may call."""
    ttl_s: float


class BatchTask(Wire):
    """All that a Pod of the run needs, resolved by the controller when the run started."""

    namespace: str
    name: str
    """The batch prediction's."""
    run: str
    """Names the run: whoever repeats it ends with one version."""
    store_url: str
    input: InputVersion
    known: list[Column] = Field(default_factory=list)
    """The input's columns of which more is known than a type: personal data, residency, tags."""
    where: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    model: ModelUsed
    format: ModelFormat = "onnx"
    trusted: list[str] = Field(default_factory=list)
    signature: Signature
    output: BatchOutput
    retention: RetentionOptions = Field(default_factory=RetentionOptions)
    """Of the output dataset."""
    way: Literal["endpoint", "own"] = "own"
    endpoint: EndpointAddress | None = None
    """Where `way` is `endpoint`. Its API key, if it wants one, is in the environment."""
    cache: CacheTarget | None = None
    """Its Redis is in the environment."""
    parallelism: int = 1
    batch_rows: int = 1024
    group_rows: int = 16384
    error_limit: str | None = None
    threads: int = 1
    """Of the run's own worker."""
    background: bool = True
    lineage_url: str | None = None
    """Where OpenLineage events go; absent: nowhere."""
    kept_in: str = ""
    """The name under which answers are kept: that of the run that began this work; empty: this one's."""
    active: list[str] = Field(default_factory=list)
    """Names under which runs that may be at work keep theirs: what is kept under others is of no more use."""

    @property
    def personal(self) -> frozenset[str]:
        """The input's columns whose values are shown nowhere."""
        return frozenset(column.name for column in self.known if column.personal is not None)

    @property
    def folder(self) -> str:
        """Where its runs keep what they know, in the store."""
        return folder_of(self.namespace, self.name)


def folder_of(namespace: str, name: str) -> str:
    """Where the runs of a batch prediction keep what they know, in the store."""
    return f"{FOLDER}/{namespace}/{name}"


class BatchReporter(Protocol):
    """Where a run is told of."""

    def progress(self, shard: BatchShard) -> None:
        """Tells how this Pod goes; returns at once and never raises. Of several in quick succession the last counts."""

    def loaded(self, report: LoadReport) -> None:
        """Tells the output dataset of its version. Raises `ConnectionError` where it could not be told in time."""

    def finish(self, result: BatchResult) -> None:
        """Tells how the run ended. Raises `ConnectionError` where it could not be told in time."""

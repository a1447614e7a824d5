"""What a loading Pod is told, and to whom it tells how it went."""

from typing import Protocol

from pydantic import Field

from mizzen.kinds.data import (
    ColumnOptions,
    DatasetSource,
    InputVersion,
    LoadOptions,
    LoadReport,
    RetentionOptions,
)
from mizzen.kinds.expectations import Expectation
from mizzen.kinds.meta import Wire


class IngestTask(Wire):
    """All that a loading Pod needs, resolved by the controller: the spec may have changed when the Pod starts."""

    namespace: str
    name: str
    """The dataset's."""
    run: str
    """Names the load: whoever repeats it ends with one version."""
    store_url: str
    code: str | None = None
    """Digest of the code bundle; absent where no source needs one."""
    source: DatasetSource
    event_time: str | None = None
    time_zone: str | None = None
    load: LoadOptions = Field(default_factory=LoadOptions)
    partition_by: list[str] = Field(default_factory=list)
    retention: RetentionOptions = Field(default_factory=RetentionOptions)
    columns: dict[str, ColumnOptions] = Field(default_factory=dict)
    expectations: list[Expectation] = Field(default_factory=list)
    inputs: list[InputVersion] = Field(default_factory=list)
    """The datasets that a query reads, each at a version."""
    full: bool = False
    """Load everything, wherever the last load ended."""
    restore: int | None = None
    """Make the content of this version that of the next, instead of loading."""
    lineage_url: str | None = None
    """Where lineage events go; absent: nowhere."""

    @property
    def personal(self) -> frozenset[str]:
        """The columns whose values are shown nowhere."""
        return frozenset(name for name, options in self.columns.items() if options.personal is not None)


class LoadReporter(Protocol):
    """Where the end of a load is told."""

    def report(self, report: LoadReport) -> None:
        """Tells it. Safe to repeat with the same report.

        Raises `ConnectionError` where it could not be told within the reporter's patience: the Pod then fails in a way
        that is tried again, finds its version committed, and only reports.
        """

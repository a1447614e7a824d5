"""What a loading Pod is told, and to whom it tells how it went."""

from typing import Protocol

from pydantic import Field

from mizzen.kinds.data import DatasetSource, Expectation, LoadReport
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
    expectations: list[Expectation] = Field(default_factory=list)


class LoadReporter(Protocol):
    """Where the end of a load is told."""

    def report(self, report: LoadReport) -> None:
        """Tells it. Safe to repeat with the same report.

        Raises `ConnectionError` where it could not be told within the reporter's patience: the Pod then fails in a way
        that is tried again, finds its version committed, and only reports.
        """

"""What a training Pod is told, and to whom it tells how it goes."""

from typing import Any, Protocol

from pydantic import Field

from mizzen.kinds.build import DatasetVersion, TaskName, TrainingReport
from mizzen.kinds.meta import Wire


class TrainingTask(Wire):
    """All that a training Pod needs, resolved by the controller: the spec may have changed when the Pod starts."""

    namespace: str
    name: str
    """The training job's."""
    run: str
    """Names the run: whoever repeats it ends with one model version."""
    store_url: str
    code: str
    """Digest of the code bundle."""
    entrypoint: str
    """`module:function`."""
    model: str
    model_task: TaskName = "other"
    datasets: list[DatasetVersion] = Field(default_factory=list)
    training_set: str | None = None
    """Which of the datasets is the training set that was made for this run; absent where none was."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    requirements: str | None = None
    """A lock file of the code bundle, for the environment of a Python model that the run makes."""


class RunReporter(Protocol):
    """Where a run is told of."""

    def update(self, report: TrainingReport) -> None:
        """Tells how it goes; returns at once and never raises. Of several in quick succession only the last is told."""

    def finish(self, report: TrainingReport) -> None:
        """Tells how it ended, and returns when that is known.

        Raises `ConnectionError` where it could not be told within the reporter's patience: the Pod then fails in a way
        that is tried again, finds its model version, and only reports.
        """

"""What a training function is given.

def fit(ctx: Context) -> TrainedModel:
    rows = ctx.dataset("flights").pandas()
    ...
    ctx.log(step=10, loss=0.41)
    return TrainedModel(booster, {"roc_auc": auc}, example=X[:10], holdout=X_held_out)
"""

import difflib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mizzen.data.lake.tables import TableVersion
from mizzen.kinds.build import Progress
from mizzen.training.result import finite

_LOG = logging.getLogger(__name__)


class UnknownDataset(LookupError):
    """The job declares no dataset of that name."""


class Context:
    """The run as the training function sees it.

    Nothing here waits for the API server or fails because of it: what is logged is told in the background.
    """

    def __init__(
        self,
        *,
        datasets: Mapping[str, Callable[[], TableVersion]],
        parameters: Mapping[str, Any],
        seed: int,
        checkpoints: Path,
        tell: Callable[[Progress | None, Mapping[str, float]], None],
        training_set: str | None = None,
    ) -> None:
        self._datasets = dict(datasets)
        self._opened: dict[str, TableVersion] = {}
        self._metrics: dict[str, float] = {}
        self._progress: Progress | None = None
        self._tell, self._training_set = tell, training_set
        self.parameters: dict[str, Any] = dict(parameters)
        """`spec.parameters`, as they are."""
        self.seed = seed
        """`spec.seed`; Python's and numpy's generators are seeded with it already."""
        self.checkpoints = checkpoints
        """A folder whose files a restarted run finds again; see `mizzen.training.checkpoints`."""

    def __repr__(self) -> str:
        return f"Context(datasets={sorted(self._datasets)}, parameters={self.parameters}, seed={self.seed})"

    def dataset(self, name: str) -> TableVersion:
        """A dataset that the job declares, at the version fixed when the run started: `.arrow()`, `.pandas()`,
        `.duckdb()`, `.batches()`, `.version`, `.schema`.

        Raises `UnknownDataset` for any other.
        """
        if name not in self._datasets:
            close = difflib.get_close_matches(name, self._datasets, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it declares {', '.join(self._datasets) or 'none'}"
            raise UnknownDataset(f"{name}: expected a dataset of the job's spec.datasets; {hint}")
        if name not in self._opened:
            self._opened[name] = self._datasets[name]()
        return self._opened[name]

    def training_set(self) -> TableVersion:
        """The set of `spec.features`: a row for each of the spine, in order, with its features as they were known then.

        Raises `UnknownDataset` where the job declares none.
        """
        if self._training_set is None:
            raise UnknownDataset("training_set: expected a job with spec.features, found one without")
        return self.dataset(self._training_set)

    def log(self, step: int | None = None, **metrics: float) -> None:
        """Tells the value of metrics at a step; the last of each is in the job's status.

        A value that is no finite number is noted in the Pod's log and not told: a loss that diverges must not end a
        run.
        """
        for name, value in metrics.items():
            number = finite(value)
            if number is None:
                _LOG.warning("%s at step %s is %r, which is no finite number", name, step, value)
            else:
                self._metrics[name] = number
        if step is not None:
            total = self._progress.total if self._progress is not None else None
            message = self._progress.message if self._progress is not None else ""
            self._progress = Progress(step=step, total=total, message=message)
        self._tell(self._progress, self._metrics)

    def progress(self, step: int, total: int | None = None, message: str = "") -> None:
        """Tells how far the run is."""
        self._progress = Progress(step=step, total=total, message=message)
        self._tell(self._progress, self._metrics)

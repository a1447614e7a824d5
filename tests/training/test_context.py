"""What a training function sees, and what it may return."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mizzen.kinds.build import Progress
from mizzen.training import Context, TrainedModel, UnknownDataset
from mizzen.training.result import BadResult, validated


class Told:
    """What a context told, and the context."""

    def __init__(self) -> None:
        self.all: list[tuple[Progress | None, dict[str, float]]] = []
        self.opened = 0
        self.context = Context(
            datasets={"things": self.open},
            parameters={"rate": 0.1},
            seed=7,
            checkpoints=Path("/nowhere"),
            tell=lambda progress, metrics: self.all.append((progress, dict(metrics))),
        )

    def open(self) -> Any:
        self.opened += 1
        return object()


def test_metrics_and_progress_add_up() -> None:
    """The last value of each metric; what is no finite number is not told; steps move the progress on."""
    told = Told()
    told.context.progress(0, 10, "starting")
    told.context.log(1, loss=0.5, auc=np.float32(0.25))
    told.context.log(2, loss=float("inf"), wrong="text", truth=True)  # type: ignore[arg-type]
    told.context.log(extra=1)
    assert told.all[-1] == (Progress(step=2, total=10, message="starting"), {"loss": 0.5, "auc": 0.25, "extra": 1.0})


def test_datasets_are_opened_once_and_only_those_declared() -> None:
    """A name that is close is suggested."""
    told = Told()
    assert told.context.dataset("things") is told.context.dataset("things")
    assert told.opened == 1
    with pytest.raises(UnknownDataset, match=r"did you mean things\?"):
        told.context.dataset("thing")
    with pytest.raises(UnknownDataset, match="it declares things"):
        told.context.dataset("entirely different")
    assert "seed=7" in repr(told.context)


@pytest.mark.parametrize(
    "result",
    [
        TrainedModel(b"onnx", {"a": 1}),
        (b"onnx", {"a": 1}),
        (b"onnx", {"a": np.int64(1)}),
        TrainedModel("m", {"a": 1.0}, example=[]),
    ],
)
def test_results_in_their_forms(result: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`TrainedModel`, or a pair where the model is ONNX; metrics become floats."""
    monkeypatch.chdir(tmp_path)
    made = validated(result, "train:fit")
    assert dict(made.metrics) == {"a": 1.0}
    assert isinstance(made.metrics["a"], float)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "train:fit: expected TrainedModel.*got NoneType None"),
        ((1, 2, 3), "got tuple"),
        ((b"onnx", 0.7), "got tuple"),
        ({"model": 1}, "got dict"),
        (TrainedModel(None), "got None: does the function return what it trained"),
        (TrainedModel(b"x", {"a": float("-inf")}), r"metrics\['a'\]: expected a finite number, got float -inf"),
        (TrainedModel(b"x", {"a": True}), "expected a finite number, got bool True"),
        (TrainedModel(b"x", {1: 1.0}), "expected names as text, got int 1"),
        (TrainedModel(b"x", {"": 1.0}), "expected names as text"),
        (TrainedModel(b"x", [0.5]), "metrics: expected numbers by name"),  # type: ignore[arg-type]
        (TrainedModel(object(), {}), "example: expected some rows"),
    ],
)  # fmt: skip
def test_nonsense_is_told_with_what_was_expected(result: Any, message: str) -> None:
    """One line, whatever it is."""
    with pytest.raises(BadResult, match=message):
        validated(result, "train:fit")

"""What a training takes its rows from: a spine of rows, and features as they were known at each of them."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from mizzen.kinds.data import DATASET_NAME
from mizzen.kinds.features import FEATURE_NAME, FeatureName
from mizzen.kinds.meta import DNS_LABEL, Timestamp, Wire


class Spine(Wire):
    """The rows of the set: who was asked about, and when."""

    dataset: str = Field(pattern=DATASET_NAME)
    """A Dataset of the same namespace, with the views' keys; all of its columns are in the set."""
    version: int | None = Field(default=None, ge=1)
    """Absent: the version served when the run starts."""
    time: str = Field(min_length=1)
    """The column that says when each row was asked: features are as of then."""
    known: str | None = Field(default=None, min_length=1)
    """The column that says since when each row could know what it knew; by default `time`."""
    everything: bool = False
    """With all that is known today, late as it came: leaks what nobody knew then, for comparison only."""
    time_zone: str | None = None
    """Of times without one."""

    @model_validator(mode="after")
    def _one_knowledge(self) -> Self:
        if self.everything and self.known is not None:
            raise ValueError("expected known or everything, found both")
        return self


class TakenView(Wire):
    """Features of one view, or labels."""

    view: str = Field(pattern=DNS_LABEL)
    """A FeatureView of the same namespace."""
    features: list[FeatureName] = Field(default_factory=list)
    """Which; by default all that need no request."""
    prefix: str = Field(default="", pattern=r"^[A-Za-z0-9_.-]{0,64}$")
    """Before the features' names in the set."""
    keys: dict[Annotated[str, Field(pattern=FEATURE_NAME)], str] = Field(default_factory=dict)
    """For a key of the view, the column of the spine that has it, where its name is another."""
    label: bool = False
    """Whether its windows lie ahead of each row, with all that is known today: what the model is to foretell. Null
    where a window is not over in the data."""


class TrainingSetSpec(Wire):
    """A training set by point-in-time join: one row for each of the spine, in order, with `row_id`."""

    name: str | None = Field(default=None, pattern=DATASET_NAME)
    """The table that keeps the sets, each a version; by default the job's name and `-set`."""
    spine: Spine
    """The rows."""
    views: list[Annotated[str, Field(pattern=DNS_LABEL)] | TakenView] = Field(min_length=1, max_length=64)
    """What is known of them: views by name, or some of their features."""
    parts: int = Field(default=1, ge=1, le=1000)
    """How many Pods make the set, each for its share of the entities; the set is the same."""

    def taken(self) -> list[TakenView]:
        """The views, spelt out."""
        return [TakenView(view=each) if isinstance(each, str) else each for each in self.views]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        seen: set[tuple[str, str]] = set()
        for taken in self.taken():
            if (taken.view, taken.prefix) in seen:
                raise ValueError(f"views: expected {taken.view} once for each prefix, found it twice")
            seen.add((taken.view, taken.prefix))
        return self


class FixedView(Wire):
    """A view as a training set takes it."""

    name: str
    version: str
    """The view's, as its status calls it: what an endpoint may be held to."""
    digest: str
    source: str
    """The dataset of its events."""
    source_version: int


class FixedFeatures(Wire):
    """What a training set is made of, fixed when the run starts."""

    spine: str
    spine_version: int
    views: list[FixedView] = Field(default_factory=list)


class TrainingSetReport(Wire):
    """What the Pods that make a training set reported."""

    run: str
    """The Job's name."""
    succeeded: bool
    reason: str = ""
    """One CamelCase word where it failed."""
    message: str = ""
    id: str = ""
    """A digest of definitions, data versions, row set and clocks: equal ids are equal sets."""
    table: str = ""
    version: int | None = None
    digest: str | None = None
    rows: int | None = None
    finished_at: Timestamp | None = None

"""What an endpoint looks up for its requests: features of entities, which the request names by their keys."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mizzen.kinds.features import FEATURE_NAME, FeatureName
from mizzen.kinds.meta import DNS_LABEL, Wire

Otherwise = Literal["error", "default", "empty"]
"""In the place of features that are not there: the request is refused; they are what a training set has of an entity
that nobody has seen (its counts are 0, and defaults hold); or all of them are null (NaN)."""
ColumnType = Literal["boolean", "int64", "float32", "float64", "text"]


class ViewFeatures(Wire):
    """Features of one view."""

    view: str = Field(pattern=DNS_LABEL)
    """A FeatureView of the same namespace."""
    version: str | None = Field(default=None, pattern=r"^[0-9a-f]{12}$")
    """The version of the view that the model was trained on (`status.version`): no other is read. Absent: the one that
    is declared."""
    features: list[FeatureName] = Field(default_factory=list)
    """Which; by default all."""
    prefix: str = Field(default="", pattern=r"^[A-Za-z0-9_.-]{0,64}$")
    """Before the features' names in the model's columns, as in its training set."""
    keys: dict[Annotated[str, Field(pattern=FEATURE_NAME)], str] = Field(default_factory=dict)
    """For a key of the view, the column of the request that has it, where its name is another."""
    missing: Otherwise = "default"
    """What becomes of a request whose entity nobody has seen."""
    stale: Otherwise = "default"
    """The same where the entity's newest row is older than the view's `ttl`."""
    unavailable: Otherwise = "error"
    """The same while the online store does not answer: `error` is 503."""


class FeatureLookup(Wire):
    """A request carries keys; the gateway looks their features up and makes the model's inputs of them.

    A column of the model that is no feature is one of the request.
    """

    views: list[ViewFeatures] = Field(min_length=1, max_length=64)
    columns: dict[str, ColumnType] = Field(default_factory=dict)
    """Types of columns of the request that only features of the request are made of; by default `float64`."""
    time: str | None = Field(default=None, min_length=1)
    """The column of the request that says when it is asked (RFC 3339), as a training set's spine does: features are as
    of then. All rows of a request have the same. Absent: when it comes. For replays, and for requests that waited."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        seen: set[tuple[str, str]] = set()
        for used in self.views:
            if (used.view, used.prefix) in seen:
                raise ValueError(f"views: expected {used.view} once for each prefix, found it twice")
            seen.add((used.view, used.prefix))
        return self

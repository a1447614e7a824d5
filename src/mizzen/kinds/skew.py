"""Whether what is read online is what the offline computation gives: how it is audited, and what was found."""

from pydantic import Field

from mizzen.kinds.meta import Timestamp, Wire
from mizzen.kinds.scalars import Duration


class SkewAudit(Wire):
    """Online reads recorded, and compared later with what the offline computation gives for the same moments."""

    sample: float = Field(default=0.01, ge=0, le=1)
    """The share of entities whose reads are recorded, by a hash of their key."""
    every: Duration = "1h"
    """How often they are compared."""
    limit: float = Field(default=0.001, ge=0, le=1)
    """The share of values that may differ; beyond, the view's condition `Consistent` is false."""


class FeatureSkew(Wire):
    """How one feature's values differed."""

    feature: str
    differing: int
    delta_p50: float | None = None
    """Of those that differ, the difference of numbers: the median, and the 99th percentile."""
    delta_p99: float | None = None


class SkewReport(Wire):
    """What an audit found."""

    run: str
    since: Timestamp
    until: Timestamp
    """The reads between are those that were compared."""
    reads: int = 0
    values: int = 0
    differing: int = 0
    """Values that are other than those computed offline."""
    missing: int = 0
    """Values that were not there online and are offline."""
    extra: int = 0
    """The reverse."""
    features: list[FeatureSkew] = Field(default_factory=list)
    """Those that differ, the worst ten first."""
    message: str = ""
    at: Timestamp

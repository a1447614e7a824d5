"""How many workers an endpoint has: `InferenceEndpoint.spec.scaling`, its `profile`, and what the status says of it."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mizzen.kinds.meta import Timestamp, Wire
from mizzen.kinds.scalars import Duration, duration_s
from mizzen.kinds.zones import zone

Profile = Literal["serverless", "always-on", "batch"]
Day = Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
Replicas = Annotated[int, Field(ge=0, le=1000)]
TimeOfDay = Annotated[str, Field(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")]
"""A time on the local clock: `08:30`."""
TARGETS = ("target_concurrency", "target_rate", "target_queue_delay", "target_latency")


def _checked_zone(text: str) -> str:
    zone(text)
    return text


def _positive_duration(text: str) -> str:
    if duration_s(text) <= 0:
        raise ValueError("expected a duration of more than 0s")
    return text


PositiveDuration = Annotated[Duration, AfterValidator(_positive_duration)]


class ScalingSchedule(Wire):
    """Other bounds in a window of local time. Of several that hold, the highest numbers count."""

    time_zone: Annotated[str, AfterValidator(_checked_zone)] = "UTC"
    """IANA name: `Europe/Berlin`. A local time that daylight saving skips is passed over; one it repeats holds
    twice."""
    days: list[Day] = Field(default=["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"], min_length=1)
    """On which days the window begins."""
    start: TimeOfDay
    """When it begins; workers are started earlier, by their time to ready."""
    end: TimeOfDay
    """When it ends; at or before `start`: on the next day."""
    min_replicas: Replicas | None = None
    max_replicas: Annotated[int, Field(ge=1, le=1000)] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_replicas is None and self.max_replicas is None:
            raise ValueError("expected minReplicas or maxReplicas")
        if self.min_replicas is not None and self.max_replicas is not None and self.min_replicas > self.max_replicas:
            raise ValueError(
                f"expected maxReplicas ({self.max_replicas}) to be at least minReplicas ({self.min_replicas})"
            )
        return self


class Scaling(Wire):
    """How many worker processes serve the model: a fixed number, or as many as the load asks for.

    The number follows the load where `minReplicas`, `maxReplicas` or the endpoint's `profile` is given. Of several
    targets, the one that asks for most workers counts; with none, it is a concurrency of 8.
    """

    replicas: Replicas = 1
    """Workers of the version that gets traffic, where the number is fixed. With 0, requests wait in the queue until
    their time is over."""
    min_replicas: Replicas | None = None
    """Never fewer. With 0, an idle endpoint has no process, and a request that comes starts one and waits for it."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Never more. By default the larger of `replicas` and `minReplicas`."""
    target_concurrency: float | None = Field(default=None, ge=0.001, le=100_000)
    """Requests of one worker, waiting or running, on average."""
    target_rate: float | None = Field(default=None, ge=0.001, le=1e9)
    """Requests a second of one worker."""
    target_queue_delay: PositiveDuration | None = None
    """How long a request may wait for a worker on average."""
    target_latency: PositiveDuration | None = None
    """How long a request may take in all, for the share `latencyQuantile` of them."""
    latency_quantile: float = Field(default=0.95, ge=0.5, le=0.999)
    policy: Literal["forecast", "reactive", "kpa"] = "forecast"
    """`forecast`: workers for the load that is expected when they will be ready; `reactive`: for the load that is
    there; `kpa`: Knative's rule, exactly, on concurrency alone."""
    stable_window: PositiveDuration | None = None
    """Over which the load is averaged. By default 60s."""
    panic_window: PositiveDuration | None = None
    """Over which it is averaged to notice a burst. By default a tenth of the stable window."""
    panic_threshold: float | None = Field(default=None, ge=1.0, le=1000.0)
    """A load of so many times what the ready workers should have is a burst: until it has passed, none is taken
    away. By default 2; with the profile `batch` none is."""
    scale_up_rate: float = Field(default=1000.0, ge=1.01, le=1000.0)
    """At most so many times the ready workers at once."""
    scale_down_rate: float = Field(default=2.0, ge=1.01, le=1000.0)
    """At most down to the ready workers divided by this at once."""
    scale_down_delay: Duration | None = None
    """Fewer workers must have been enough for this long. By default 0s."""
    scale_to_zero_after: PositiveDuration | None = None
    """How long the last worker stays without a request, where `minReplicas` is 0. By default it is learned from the
    endpoint's own idle times, and 5m until enough of them are known."""
    schedules: list[ScalingSchedule] = Field(default_factory=list)
    """Other bounds at certain times of the week."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_replicas is not None and self.max_replicas is not None and self.min_replicas > self.max_replicas:
            raise ValueError(
                f"expected maxReplicas ({self.max_replicas}) to be at least minReplicas ({self.min_replicas})"
            )
        stable_s = duration_s(self.stable_window) if self.stable_window is not None else 60.0
        if not 6.0 <= stable_s <= 3600.0:
            raise ValueError(f"expected a stableWindow of 6s to 1h, got {self.stable_window}")
        if self.panic_window is not None and not 1.0 <= duration_s(self.panic_window) <= stable_s:
            raise ValueError(
                f"expected a panicWindow of 1s to the stableWindow ({stable_s:g}s), got {self.panic_window}"
            )
        return self


class ScalingStatus(Wire):
    """How many workers are wanted, and why."""

    desired: int
    rule: str
    """What decided, in one word: `concurrency`, `panic`, `forecast`, `idle`, `schedule`, `bounds`, …"""
    why: str
    """The decision as a sentence with its numbers."""
    since: Timestamp
    """When `desired` last changed."""
    time_to_ready: str | None = None
    """From a worker's being asked for to its being ready, as measured: nine in ten were faster."""

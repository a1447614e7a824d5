"""An endpoint's scaling as it is meant: what the spec says, and its profile's presets for what it leaves out.

| preset | minReplicas | scaleToZeroAfter | stableWindow | panic | scaleDownDelay | target |
|---|---|---|---|---|---|---|
| none, `always-on` | 1 | - | 60s | from 2 times | 0s | concurrency 8 |
| `serverless` | 0 | learned | 60s | from 2 times | 0s | concurrency 8 |
| `batch` | 0 | 1m | 120s | never | 0s | concurrency 64 |
"""

import math
from dataclasses import dataclass

from mizzen.kinds.scalars import duration_s
from mizzen.kinds.scaling import Profile
from mizzen.kinds.serve import InferenceEndpointSpec
from mizzen.policy.scaling.reactive import KNATIVE, Windows
from mizzen.policy.scaling.schedules import Window
from mizzen.policy.scaling.targets import Targets

STABLE_WINDOW_S = 60.0
HYSTERESIS = 0.1
"""A number of workers is kept until a tenth more than the present load would fit one fewer."""


@dataclass(frozen=True, slots=True)
class _Preset:
    min_replicas: int = 1
    concurrency: float = 8.0
    stable_window_s: float = STABLE_WINDOW_S
    panic_threshold: float = 2.0
    scale_to_zero_after_s: float | None = None


PRESETS: dict[Profile | None, _Preset] = {
    None: _Preset(),
    "always-on": _Preset(),
    "serverless": _Preset(min_replicas=0),
    "batch": _Preset(
        min_replicas=0, concurrency=64.0, stable_window_s=120.0, panic_threshold=math.inf, scale_to_zero_after_s=60.0
    ),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the policy is asked to keep."""

    min_replicas: int
    max_replicas: int
    targets: Targets
    windows: Windows = KNATIVE
    policy: str = "forecast"
    hysteresis: float = HYSTERESIS
    scale_down_delay_s: float = 0.0
    scale_to_zero_after_s: float | None = None
    """`None`: learned."""
    schedules: tuple[Window, ...] = ()

    @property
    def is_fixed(self) -> bool:
        """Whether there is nothing to decide."""
        return self.min_replicas == self.max_replicas and not self.schedules


def settings_of(spec: InferenceEndpointSpec) -> Settings | None:
    """What the spec means; `None` where it asks for a fixed number (`spec.scaling.replicas`)."""
    scaling, preset = spec.scaling, PRESETS[spec.profile]
    bounded = scaling.min_replicas is not None or scaling.max_replicas is not None
    if not bounded and spec.profile in {None, "always-on"} and not scaling.schedules:
        return None
    least = scaling.min_replicas if scaling.min_replicas is not None else preset.min_replicas
    most = scaling.max_replicas if scaling.max_replicas is not None else max(scaling.replicas, least, 1)
    least = min(least, most)
    stable_s = duration_s(scaling.stable_window) if scaling.stable_window is not None else preset.stable_window_s
    panic_s = duration_s(scaling.panic_window) if scaling.panic_window is not None else stable_s / 10
    threshold = scaling.panic_threshold if scaling.panic_threshold is not None else preset.panic_threshold
    zero = scaling.scale_to_zero_after
    return Settings(
        min_replicas=least,
        max_replicas=most,
        targets=_targets(spec, preset),
        windows=Windows(stable_s, panic_s, threshold, scaling.scale_up_rate, scaling.scale_down_rate),
        policy=scaling.policy,
        scale_down_delay_s=duration_s(scaling.scale_down_delay) if scaling.scale_down_delay is not None else 0.0,
        scale_to_zero_after_s=duration_s(zero) if zero is not None else preset.scale_to_zero_after_s,
        schedules=tuple(Window.of(schedule) for schedule in scaling.schedules),
    )


def _targets(spec: InferenceEndpointSpec, preset: _Preset) -> Targets:
    scaling = spec.scaling
    delay, latency = scaling.target_queue_delay, scaling.target_latency
    given = (scaling.target_concurrency, scaling.target_rate, delay, latency)
    concurrency = scaling.target_concurrency
    if all(one is None for one in given):
        concurrency = preset.concurrency
    return Targets(
        concurrency=concurrency,
        rate_per_s=scaling.target_rate,
        queue_delay_s=duration_s(delay) if delay is not None else None,
        latency_s=duration_s(latency) if latency is not None else None,
        latency_quantile=scaling.latency_quantile,
    )

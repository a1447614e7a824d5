"""How many workers a load asks for, by each target of the endpoint.

    concurrency    requests in the system / target                        (Knative's, the default)
    rate           requests a second / target
    queue delay    the fewest workers whose mean wait is short enough     (M/M/c, see `erlang`)
    latency        the fewest workers with which few enough wait longer than the latency leaves beside the service
    itself

What waits is not what comes. Where requests wait, the number in the system says how long too few served, and a start
that takes a minute makes it say absurd things: Knative's rule then asks for a worker for every one that waits. Here the
load is what comes (the arrival rate) times how long a request takes at a worker (`pace`), and what waits is work to be
done once, within `drain_s`: the time in which a worker that is asked for now could help, five seconds at least. So a
number of workers follows that does not depend on how many there are, and nothing compounds while workers start.

The target that asks for most counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mizzen.policy.scaling.erlang import servers_for_tail, servers_for_wait
from mizzen.policy.scaling.meter import Load

DRAIN_S_MIN = 5.0
UTILISATION_MAX = 0.9
"""Where a latency cannot be reached by any number of workers: busy so much of the time, and no more than that."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What one worker should have, or a request wait; `None`: not aimed at."""

    concurrency: float | None = None
    rate_per_s: float | None = None
    queue_delay_s: float | None = None
    latency_s: float | None = None
    latency_quantile: float = 0.95
    slots: int = 1
    """Requests (or batches) that one worker runs at the same time."""


class Work(NamedTuple):
    """What a request is: seconds at a worker, and seconds of a whole worker's compute. `None`: not known."""

    at_worker_s: float | None = None
    busy_s: float | None = None


UNKNOWN = Work()


class Need(NamedTuple):
    """So many workers, not rounded; `by` which target, with the value seen and the one aimed at."""

    workers: float
    by: str
    value: float = 0.0
    target: float = 0.0

    @property
    def words(self) -> str:
        """The need as a part of a sentence."""
        value, target = f"{self.value:.3g}", f"{self.target:g}"
        return _WORDS[self.by].format(value=value, target=target)


_WORDS = {
    "concurrency": "{value} requests at a time, {target} aimed at for each worker",
    "rate": "{value} requests a second, {target} aimed at for each worker",
    "queueDelay": "work for {value} workers, a mean wait of {target} s aimed at",
    "latency": "work for {value} workers, a latency of {target} s aimed at",
    "latencyOutOfReach": "a request takes {value} s at a worker: no number of workers keeps {target} s",
    "idle": "nothing to do",
}
NO_NEED = Need(0.0, "idle")


def need(targets: Targets, load: Load, work: Work = UNKNOWN, waiting: float = 0.0, drain_s: float = 0.0) -> Need:
    """What asks for most workers. `waiting`: requests that wait now, to be worked off in `drain_s`."""
    best, drain_s = NO_NEED, max(drain_s, DRAIN_S_MIN)
    if targets.concurrency is not None:
        at_once = load.concurrency
        if work.at_worker_s is not None:
            at_once = min(at_once, (load.rate_per_s + waiting / drain_s) * work.at_worker_s)
        best = Need(at_once / targets.concurrency, "concurrency", at_once, targets.concurrency)
    if targets.rate_per_s is not None:
        rate_per_s = load.rate_per_s + waiting / drain_s
        if rate_per_s / targets.rate_per_s > best.workers:
            best = Need(rate_per_s / targets.rate_per_s, "rate", rate_per_s, targets.rate_per_s)
    if work.busy_s is not None and load.rate_per_s > 0:
        for one in _queueing(targets, load.rate_per_s, work.busy_s, waiting / drain_s):
            if one.workers > best.workers:
                best = one
    return best


def _queueing(targets: Targets, rate_per_s: float, busy_s: float, draining_per_s: float) -> Iterator[Need]:
    """By the queueing model: servers are slots, and a request keeps one busy for `slots * busy_s`."""
    slots, service_s = targets.slots, busy_s * targets.slots
    offered, extra = rate_per_s * service_s, draining_per_s * service_s
    wait_s, latency_s = targets.queue_delay_s, targets.latency_s
    if wait_s is not None:
        servers = servers_for_wait(offered, service_s, wait_s) + extra
        yield Need(servers / slots, "queueDelay", (offered + extra) / slots, wait_s)
    if latency_s is not None:
        left_s = latency_s - service_s
        if left_s <= 0:
            yield Need((offered / UTILISATION_MAX + extra) / slots, "latencyOutOfReach", service_s, latency_s)
            return
        servers = servers_for_tail(offered, service_s, left_s, 1.0 - targets.latency_quantile) + extra
        yield Need(servers / slots, "latency", (offered + extra) / slots, latency_s)

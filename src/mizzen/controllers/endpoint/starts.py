"""How long the parts of a worker's start took: from what the controller sees of its Pod, and when.

Kubernetes' own timestamps are whole seconds, and a start may be a fraction of one; so the moments are those at which
this process learned of them, by its monotonic clock. A Pod that was there before is not timed. What happens inside the
worker's process (fetch, load, warm-up) it tells itself (`reports`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from lightkube.resources.core_v1 import Pod

from mizzen.controllers.endpoint.reports import Report
from mizzen.kinds.names import LABEL_ENDPOINT
from mizzen.kinds.serve import StartTimes
from mizzen.kube.resources import meta_of


@dataclass(slots=True)
class _Moments:
    made: float
    placed: float | None = None
    running: float | None = None
    """Not seen where the Pod was found ready at once."""
    ready: float | None = None


class Starts:
    """The starts of the worker Pods that there are. `seen` is for an informer to call."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._moments: dict[str, _Moments] = {}

    def seen(self, old: Pod | None, new: Pod | None) -> None:
        """A Pod has come, changed or gone."""
        if new is None:
            if old is not None:
                self._moments.pop(meta_of(old).uid, None)
            return
        meta = meta_of(new)
        if old is None:
            if LABEL_ENDPOINT in meta.labels and not _is_placed(new):
                self._moments[meta.uid] = _Moments(self._clock())
            return
        moments = self._moments.get(meta.uid)
        if moments is None or moments.ready is not None:
            return
        now = self._clock()
        if moments.placed is None and _is_placed(new):
            moments.placed = now
        if moments.running is None and _is_running(new):
            moments.running = now
        if is_ready(new):
            moments.ready = now

    def of(self, pod: Pod, report: Report) -> StartTimes | None:
        """`None` until it is ready, and where it was not seen from the beginning."""
        moments = self._moments.get(meta_of(pod).uid)
        if moments is None or moments.ready is None:
            return None
        return StartTimes(
            schedule_s=_between(moments.made, moments.placed),
            start_s=_between(moments.placed, moments.running),
            fetch_s=report.fetch_s,
            load_s=report.load_s,
            warm_up_s=report.warm_up_s,
            total_s=_between(moments.made, moments.ready),
        )


def _between(began: float | None, ended: float | None) -> float | None:
    return round(ended - began, 3) if began is not None and ended is not None else None


def _is_placed(pod: Pod) -> bool:
    return pod.spec is not None and bool(pod.spec.nodeName)


def _is_running(pod: Pod) -> bool:
    statuses = (pod.status.containerStatuses or ()) if pod.status is not None else ()
    return any(status.state is not None and status.state.running is not None for status in statuses)


def is_ready(pod: Pod) -> bool:
    """Whether the Pod says that it is."""
    conditions = (pod.status.conditions or ()) if pod.status is not None else ()
    return any(condition.type == "Ready" and condition.status == "True" for condition in conditions)

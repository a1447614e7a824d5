"""Who has a place in the queue when there is none for all: who comes too late for it, and who gives one up."""

from mizzen.policy.queue.commands import Reason, Refused
from mizzen.policy.queue.fairness import Flow
from mizzen.policy.queue.forecast import HEADROOM
from mizzen.policy.queue.lane import Lane
from mizzen.policy.queue.request import Request


def too_late(request: Request, lane: Lane, now: float) -> Refused | None:
    """The refusal of who comes when what is before it takes longer than it has; `None`: it is in time."""
    left_s = request.deadline_s - now
    answer_s = lane.answer_s(request, now)
    if answer_s is None or answer_s <= HEADROOM * left_s:
        return None
    return Refused(request, Reason.TOO_LATE, answer_s - HEADROOM * left_s)


def least_entitled(request: Request, lane: Lane) -> Request | None:
    """Who is to make room in a full queue for one that comes; `None`: nobody who waits is less entitled than that.

    That is the lowest priority; there, the tenant that has most waiting for its weight; of that, its last request.
    """
    lowest = lane.least_urgent()
    band = lane.band(lowest) if lowest else None
    if band is None or lowest < request.priority:
        return None
    largest: Flow | None = max(
        (flow for flow in band.flows.values() if flow.count), key=lambda flow: flow.cost / flow.weight, default=None
    )
    if largest is None:
        return None
    if lowest == request.priority:
        own = band.flows.get(request.tenant)
        cost = request.cost + (own.cost if own is not None else 0)
        weight = lane.rules.weights.get(request.tenant, 1.0)
        if own is largest or cost / weight > (largest.cost - request.cost) / largest.weight:
            return None
    return lane.last_of(largest)

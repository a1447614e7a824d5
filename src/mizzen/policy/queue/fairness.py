"""Who comes next within one priority: weighted fairness between tenants, earliest deadline first within a tenant.

**Between tenants** it is start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM 1996). A
flow is a tenant's waiting requests; its tag is its virtual time: it grows by `cost / weight` with each request taken
from it. The flow with the smallest tag is next. The band's virtual time `start` is the tag of the flow that headed the
last batch; a flow that was empty begins at `start` at least, so that nobody saves up a share while away, and where the
band is empty, at the largest tag, so that nobody is charged for what he had while alone. The algorithm needs no rate of
the server, unlike those that emulate a fluid one, and so holds while workers come, go and slow down; and since tags
belong to flows and not to requests, a flow may have any order within.

For two flows that both have something waiting of the same shape, over any time:

    | served_f / weight_f - served_g / weight_g |  <=  (B + c_f) / weight_f + (B + c_g) / weight_g

where `c` is the largest cost of a request of that flow and `B` that of a batch. (Without batches it is Goyal's bound,
without `B`. A batch that is headed by one flow is filled up with others' requests of its shape where the flows before
them have none, or none that fits. These pay for it, and may be ahead by a batch at most: further, room is left empty.)

**Within a tenant**, the earliest deadline is first, then the earliest arrival: which is what keeps most deadlines where
all can be kept (Liu and Layland, 1973), and with one timeout for all is first come, first served.

All heaps are lazy. A request that goes leaves its place behind, which is dropped when it comes up, or together with
others once most places are such. A flow's place among flows and a line's among lines may be too early (tags and heads
only grow while there is something): it is put right when it comes up.
"""

import heapq
from collections.abc import Hashable

from mizzen.policy.queue.request import Request

STALE_MIN = 64
"""Places left behind are dropped together once there are this many and more than of those that wait."""
FLOWS_MIN = 64
"""Flows with nothing waiting are forgotten once there are this many and more than of those with something."""

LOOKS = 32
"""How many of those that wait are looked at to tell how many are before one that comes."""


class Group:
    """Totals of the requests of a lane that fit together, of all priorities and tenants."""

    __slots__ = ("count", "rows", "size")

    def __init__(self) -> None:
        self.count = self.rows = self.size = 0


class Line:
    """The requests of one flow that fit together, by deadline."""

    __slots__ = ("count", "flow", "group", "heap")

    def __init__(self, flow: "Flow", group: Group) -> None:
        self.flow = flow
        self.group = group
        self.heap: list[tuple[float, float, Request]] = []
        self.count = 0

    def head(self) -> Request | None:
        """The first that waits."""
        heap = self.heap
        while heap:
            request = heap[0][2]
            if request.home is self:
                return request
            heapq.heappop(heap)
        return None

    def last(self) -> Request | None:
        """One of those with the latest deadlines: with one timeout for all, the last that came."""
        heap = self.heap
        while heap:
            request = heap[-1][2]
            if request.home is self:
                return request
            heap.pop()
        return None

    def tidy(self) -> None:
        """Drops the places left behind, once that pays."""
        if len(self.heap) > STALE_MIN and self.count * 2 < len(self.heap):
            self.heap[:] = [entry for entry in self.heap if entry[2].home is self]
            heapq.heapify(self.heap)


class Flow:
    """One tenant's requests in one band."""

    __slots__ = ("band", "cost", "count", "heads", "lines", "number", "placed", "tag", "weight")

    def __init__(self, band: "Band", number: int) -> None:
        self.band = band
        self.number = number
        self.weight = 1.0
        self.tag = 0.0
        self.placed = False
        """Whether it has a place in the band's order."""
        self.cost = 0
        self.count = 0
        self.lines: dict[Hashable, Line] = {}
        self.heads: list[tuple[float, float, Hashable]] = []
        """The lines by their first requests, where there are several."""

    def line(self, key: Hashable, group: Group) -> Line:
        """A new line."""
        if len(self.lines) > STALE_MIN and 2 * self.count < len(self.lines):
            self.lines = {other: others for other, others in self.lines.items() if others.count}
        line = self.lines[key] = Line(self, group)
        if len(self.lines) == 2:
            for other, others in self.lines.items():
                if (head := others.head()) is not None:
                    heapq.heappush(self.heads, (head.deadline_s, head.arrival, other))
        return line

    def push(self, request: Request, line: Line) -> None:
        """It waits in that line."""
        heapq.heappush(line.heap, (request.deadline_s, request.arrival, request))
        line.count += 1
        if len(self.lines) > 1 and line.heap[0][2] is request:
            heapq.heappush(self.heads, (request.deadline_s, request.arrival, request.group))

    def cost_before(self, deadline_s: float) -> float:
        """About what of its cost has an earlier deadline: by a look at `LOOKS` places of each line."""
        cost = 0.0
        for line in self.lines.values():
            looked = line.heap[:: len(line.heap) // LOOKS + 1]
            if looked:
                before = sum([place[0] <= deadline_s for place in looked])
                cost += self.cost * line.count / self.count * before / len(looked)
        return cost

    def emptied(self) -> None:
        """Nothing waits any more."""
        if len(self.lines) > 1:
            self.lines.clear()
            self.heads.clear()

    def first(self) -> Request | None:
        """The first of all that wait."""
        if len(self.lines) == 1:
            (line,) = self.lines.values()
            return line.head()
        heads = self.heads
        while heads:
            deadline_s, arrival, key = heads[0]
            line_or_none = self.lines.get(key)
            head = line_or_none.head() if line_or_none is not None else None
            if head is None:
                heapq.heappop(heads)
                self.lines.pop(key, None)
            elif head.deadline_s == deadline_s and head.arrival == arrival:
                return head
            else:
                heapq.heapreplace(heads, (head.deadline_s, head.arrival, key))
        return None


class Band:
    """All flows of one priority."""

    __slots__ = ("_numbers", "count", "finish", "flows", "order", "passed", "start", "weight")

    def __init__(self) -> None:
        self.flows: dict[str, Flow] = {}
        """By tenant: those with something waiting, and those that were lately so."""
        self.order: list[tuple[float, int, Flow]] = []
        self.start = 0.0
        """The virtual time: a flow that comes begins here."""
        self.finish = 0.0
        """The largest tag."""
        self.count = 0
        self.weight = 0.0
        """Of all flows that have something waiting."""
        self.passed = 0
        """Batches that others headed since this band last headed one, while it had something waiting."""
        self._numbers = 0

    @property
    def cost(self) -> int:
        """Of all that waits."""
        return sum([flow.cost for flow in self.flows.values()])

    def flow(self, tenant: str) -> Flow:
        """A new flow."""
        if len(self.flows) > FLOWS_MIN:
            waiting = {name: flow for name, flow in self.flows.items() if flow.count or flow.tag > self.start}
            if 2 * len(waiting) < len(self.flows):
                self.flows = waiting
        self._numbers += 1
        flow = self.flows[tenant] = Flow(self, self._numbers)
        return flow

    def came(self, flow: Flow, weight: float) -> None:
        """A flow that was empty has something waiting."""
        flow.weight = weight
        self.weight += weight
        flow.tag = max(flow.tag, self.start)
        if not flow.placed:
            flow.placed = True
            heapq.heappush(self.order, (flow.tag, flow.number, flow))

    def went(self, flow: Flow) -> None:
        """A flow has nothing waiting any more."""
        self.weight -= flow.weight
        if not self.count:
            self.start, self.weight = self.finish, 0.0

    def first(self) -> Flow | None:
        """The flow that is next."""
        order = self.order
        while order:
            tag, _, flow = order[0]
            if not flow.count:
                heapq.heappop(order)
                flow.placed = False
            elif flow.tag != tag and len(order) > 1:
                heapq.heapreplace(order, (flow.tag, flow.number, flow))
            else:
                return flow
        return None

    def second_tag(self) -> float:
        """Up to which tag the first flow stays first; it may be too small."""
        order = self.order
        if len(order) == 1:
            return float("inf")
        return order[1][0] if len(order) == 2 else min(order[1][0], order[2][0])

    def put_aside(self) -> Flow:
        """The first flow loses its place until it is put back."""
        return heapq.heappop(self.order)[2]

    def put_back(self, flow: Flow) -> None:
        heapq.heappush(self.order, (flow.tag, flow.number, flow))

    def charge(self, flow: Flow, cost: int) -> None:
        """Something was taken from the flow."""
        flow.tag += cost / flow.weight
        self.finish = max(self.finish, flow.tag)

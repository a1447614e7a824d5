"""A batch while it is put together: from the head, what fits with it is added in the order of `fairness`.

A batch has room for so many rows and bytes, and for nobody with whom it would be late for one that it has. Who cannot
be answered in time even alone is taken out and not run. The loop in `_take_from` is the queue's hottest: it takes what
it can from one flow before it looks at the others again.
"""

import heapq
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from mizzen.policy.queue.fairness import Band, Line
from mizzen.policy.queue.request import Request


@dataclass(slots=True)
class Late:
    """A request that was given up. `needed_s`: what a worker would have needed, where its time was not over."""

    request: Request
    needed_s: float


class Forming:
    """One batch to be."""

    __slots__ = (
        "_cost", "_cost_s", "_deadline_s", "_late", "_now", "_ready_s", "_remove", "_removed", "_size", "requests",
        "rows", "rows_max", "size_max",
    )  # fmt: skip

    def __init__(
        self, ready_s: float, cost_s: float, now: float, late: list[Late], remove: Callable[[Request], None],
        removed: Callable[[Line, Hashable, int, int, int, int], None],
    ) -> None:  # fmt: skip
        """A batch of cost `c` is answered by `ready_s + cost_s * c`. Who is taken out is told to `remove`; how many
        were taken from a line, with how many rows, bytes and cost, to `removed`.
        """
        self.requests: list[Request] = []
        self.rows = 0
        self.rows_max = self.size_max = float("inf")
        self._size = self._cost = 0
        self._deadline_s = float("inf")
        """The first of all in it."""
        self._ready_s = ready_s
        self._cost_s = cost_s
        self._now = now
        self._late = late
        self._remove = remove
        self._removed = removed

    def take(self, head: Request) -> bool:
        """The first one; `False` where it is late."""
        finish_s = self._ready_s + self._cost_s * head.cost
        if finish_s >= head.deadline_s:
            self._late.append(Late(head, finish_s - self._now if head.deadline_s > self._now else 0.0))
            return False
        self.requests.append(head)
        self.rows += head.rows
        self._size += head.size
        self._cost += head.cost
        self._deadline_s = min(self._deadline_s, head.deadline_s)
        return True

    def fill(self, band: Band) -> None:
        """Adds what fits from that band, from no flow more than a batch ahead of the band's virtual time."""
        head = self.requests[0]
        batch_cost = self.size_max if head.by_size else self.rows_max
        aside = []
        while self.rows < self.rows_max and (flow := band.first()) is not None:
            line = flow.lines.get(head.group)
            if line is None or not self._take_from(line, band, band.start + batch_cost / flow.weight):
                aside.append(band.put_aside())
        for flow in aside:
            band.put_back(flow)

    def _take_from(self, line: Line, band: Band, tag_max: float) -> bool:
        """Takes from the first flow until another is first; `False` where that flow has no more for this batch."""
        flow, heap, requests = line.flow, line.heap, self.requests
        until, weight, ready_s, cost_s = band.second_tag(), flow.weight, self._ready_s, self._cost_s
        before, rows, size, cost = len(requests), self.rows, self._size, self._cost
        rows_max, size_max, first_s, tag = self.rows_max, self.size_max, self._deadline_s, flow.tag
        late, more = list[Request](), False
        group_key: Hashable = None
        while heap:
            head = heap[0][2]
            if head.home is not line:
                heapq.heappop(heap)
                continue
            deadline_s, group_key = head.deadline_s, head.group
            finish_s = ready_s + cost_s * (cost + head.cost)
            if finish_s >= deadline_s and ready_s + cost_s * head.cost >= deadline_s:
                heapq.heappop(heap)
                late.append(head)
                continue
            if (
                head.alone
                or rows + head.rows > rows_max
                or size + head.size > size_max
                or tag > tag_max
                or finish_s >= deadline_s
                or finish_s >= first_s
            ):
                break
            heapq.heappop(heap)
            head.home = None
            requests.append(head)
            rows += head.rows
            size += head.size
            cost += head.cost
            first_s = min(first_s, deadline_s)
            tag += head.cost / weight
            if tag >= until:
                more = True
                break
        taken = len(requests) - before
        if taken:
            flow.tag = tag
            band.finish = max(band.finish, tag)
            self._removed(line, group_key, taken, rows - self.rows, size - self._size, cost - self._cost)
            self.rows, self._size, self._cost, self._deadline_s = rows, size, cost, first_s
        for request in late:
            self._remove(request)
            self.take(request)
        return more

"""The queue's order by the book: plain lists, sorted each time, one line of code for each rule of the theory."""

from collections.abc import Callable
from dataclasses import dataclass, field

from mizzen.policy.queue import Request, Rules
from mizzen.policy.queue.lane import PASSED_MAX


@dataclass
class NaiveBand:
    """One priority's virtual time."""

    start: float = 0.0
    finish: float = 0.0
    passed: int = 0
    tags: dict[str, float] = field(default_factory=dict)
    """By tenant, in the order in which they first came."""


class NaiveLane:
    """Who waits for one version: in one plain list, and in batches to be run again."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.listed: list[Request] = []
        self.again: list[list[Request]] = []
        self.bands = {level: NaiveBand() for level in range(1, rules.priority_levels + 1)}

    def add(self, request: Request) -> None:
        for one in request.parts or [request]:
            self.add_one(one)

    def add_one(self, request: Request) -> None:
        band = self.bands[request.priority]
        if not self.of(request.priority, request.tenant):
            band.tags[request.tenant] = max(band.tags.get(request.tenant, 0.0), band.start)
        self.listed.append(request)

    def add_again(self, *batches: list[Request], first: bool = False) -> None:
        self.again = [*batches, *self.again] if first else [*self.again, *batches]

    def of(self, priority: int, tenant: str) -> list[Request]:
        """A flow, in order."""
        found = [r for r in self.listed if (r.priority, r.tenant) == (priority, tenant)]
        return sorted(found, key=lambda r: (r.deadline_s, r.arrival))

    def flows(self, priority: int) -> list[str]:
        """Tenants with something waiting there, the smallest tag first, then who was first known."""
        tags = self.bands[priority].tags
        return sorted((t for t in tags if self.of(priority, t)), key=lambda t: (tags[t], list(tags).index(t)))

    def take(self, now: float) -> list[Request]:
        """What a worker is given now."""
        while self.again:
            batch = self.again.pop(0)
            if live := [r for r in batch if r.deadline_s > now]:
                return live
        while (heading := self.next_priority()) is not None:
            band = self.bands[heading]
            tenant = self.flows(heading)[0]
            head = self.of(heading, tenant)[0]
            if head.deadline_s <= now:
                self.drop(head)
                continue
            for level, other in self.bands.items():
                waits = level == heading or any(r.priority == level for r in self.listed if r is not head)
                other.passed = other.passed + 1 if waits and level != heading else 0
            band.start = band.tags[tenant]
            self.charge(head)
            self.drop(head)
            return [head] if head.alone else [head, *self.fill(head, heading, now)]
        return []

    def fill(self, head: Request, heading: int, now: float) -> list[Request]:
        taken, rows = [], head.rows
        for priority in (heading, *(level for level in self.bands if level != heading)):
            aside: set[str] = set()
            band = self.bands[priority]
            if priority != heading and (first := self.flows(priority)):
                band.start = max(band.start, band.tags[first[0]])
            while rows < self.rules.batch_rows_max and (
                flows := [tenant for tenant in self.flows(priority) if tenant not in aside]
            ):
                line = [r for r in self.of(priority, flows[0]) if r.group == head.group]
                if line and line[0].deadline_s <= now:
                    self.drop(line[0])
                elif (
                    not line
                    or line[0].alone
                    or rows + line[0].rows > self.rules.batch_rows_max
                    or self.is_ahead(band, flows[0])
                ):
                    aside.add(flows[0])
                else:
                    taken.append(line[0])
                    rows += line[0].rows
                    self.charge(line[0])
                    self.drop(line[0])
        return taken

    def is_ahead(self, band: NaiveBand, tenant: str) -> bool:
        weight = self.rules.weights.get(tenant, 1.0)
        return band.tags[tenant] > band.start + self.rules.batch_rows_max / weight

    def next_priority(self) -> int | None:
        waiting = [level for level in self.bands if any(r.priority == level for r in self.listed)]
        if not waiting:
            return None
        passed_over = [level for level in waiting[1:] if self.bands[level].passed >= PASSED_MAX]
        longest = max(passed_over, key=lambda level: self.bands[level].passed, default=waiting[0])
        return longest if self.bands[longest].passed > self.bands[waiting[0]].passed else waiting[0]

    def charge(self, request: Request) -> None:
        band = self.bands[request.priority]
        band.tags[request.tenant] += request.cost / self.rules.weights.get(request.tenant, 1.0)
        band.finish = max(band.finish, band.tags[request.tenant])

    def drop(self, request: Request) -> None:
        self.remove(lambda one: one is request)

    def remove(self, goes: Callable[[Request], bool]) -> None:
        before = {r.priority for r in self.listed}
        self.listed = [r for r in self.listed if not goes(r)]
        self.again = [left for batch in self.again if (left := [r for r in batch if not goes(r)])]
        for emptied in before - {r.priority for r in self.listed}:
            self.bands[emptied].start = self.bands[emptied].finish

    def waiting(self) -> list[Request]:
        return [*self.listed, *(r for batch in self.again for r in batch)]

    def rows(self) -> int:
        return sum(r.rows for r in self.waiting())

    def clear(self) -> None:
        self.remove(lambda _: True)


class NaiveQueue:
    """All lanes."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.lanes: dict[str, NaiveLane] = {}

    def lane(self, key: str) -> NaiveLane:
        return self.lanes.setdefault(key, NaiveLane(self.rules))

    def remove(self, goes: Callable[[Request], bool]) -> None:
        for lane in self.lanes.values():
            lane.remove(goes)

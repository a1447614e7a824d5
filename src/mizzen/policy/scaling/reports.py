"""What a gateway process tells the controller, once a second and at once when a request finds no worker.

All numbers are sums since the process began, so that a report that is lost costs nothing: the next one holds what it
held. Only endpoints whose numbers changed, or at which something waits or runs, are in a report; a report without any
says that the process is there and has nothing to do. On the wire it is one line of JSON.

How the sums come about without a cost for each request is in `serving/gateway/reporting.py`.
"""

import msgspec

from mizzen.policy.scaling.meter import Flow


class EndpointTotals(msgspec.Struct, frozen=True, rename="camel"):
    """One endpoint in one gateway process."""

    namespace: str
    name: str
    arrivals: float = 0.0
    running_s: float = 0.0
    """Requests at workers, times seconds."""
    waiting_s: float = 0.0
    """Requests that waited, times seconds."""
    busy_s: float = 0.0
    """Seconds that workers computed for this process."""
    answered: float = 0.0
    waiting: int = 0
    """Requests that wait now."""
    running: int = 0
    """Batches that workers have now."""

    def since(self, before: "EndpointTotals | None") -> Flow:
        """What happened since `before`; nothing where there is no before, or where the process began anew."""
        if before is None or self.arrivals < before.arrivals or self.answered < before.answered:
            return Flow()
        running_s = max(0.0, self.running_s - before.running_s)
        waiting_s = max(0.0, self.waiting_s - before.waiting_s)
        return Flow(
            arrivals=self.arrivals - before.arrivals,
            concurrency_s=running_s + waiting_s,
            busy_s=max(0.0, self.busy_s - before.busy_s),
            answered=self.answered - before.answered,
            waiting_s=waiting_s,
        )


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """One line. The first of a connection over TCP holds the token that both sides know."""

    endpoints: list[EndpointTotals] = []
    token: str = ""


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Report).decode
"""Raises `msgspec.DecodeError` where the line is no report."""
LINE_BYTES_MAX = 16 << 20

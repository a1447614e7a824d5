"""How exchanges end: each passes here once, answered, refused or left, and is counted.

Whoever wants to know of every request (metrics, a log of predictions) needs to look nowhere else.
"""

import logging
from collections.abc import Sequence

from mizzen.policy.queue import Failed, Reason, Refused, Rules
from mizzen.serving.gateway.errors import INTERNAL, HttpError
from mizzen.serving.gateway.exchange import Exchange
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.gateway.served import Served
from mizzen.serving.tensors import BadTensorError, Tensor

log = logging.getLogger("mizzen.gateway")


class Ends:
    """The ends of one endpoint's exchanges."""

    def __init__(self, endpoint: str, measures: Measures) -> None:
        self._endpoint = endpoint
        self._measures = measures

    def answer(self, exchange: Exchange, served: Served, outputs: Sequence[Tensor], now: float) -> None:
        """With that version's outputs."""
        assert exchange.decoded is not None, "what was queued was decoded"
        rows = exchange.decoded.rows
        try:
            if exchange.flight is not None:
                exchange.flight.computed(outputs)
            exchange.write(served, outputs)
        except BadTensorError as error:
            self.refuse(exchange, HttpError(500, str(error), "bad_output"))
        except Exception:
            log.exception("%s: an answer failed for a reason that is a bug", self._endpoint)
            self.refuse(exchange, INTERNAL)
        else:
            self._measures.answered(rows, now - exchange.came_s)

    def refuse(self, exchange: Exchange, error: HttpError) -> None:
        """With an error."""
        if exchange.done:
            return
        self._measures.outcome(error.outcome)
        exchange.refuse(error)

    def leave(self, exchange: Exchange) -> None:
        """The client has gone."""
        exchange.abandon()
        self._measures.outcome("cancelled")


def failed(command: Failed) -> HttpError:
    """What a client is told whose request the model refused, or that was lost with its workers."""
    return HttpError(500, command.message, "worker_lost" if command.lost else "failed")


def expired(exchange: Exchange, *, worker_seen: bool, needed_s: float = 0.0) -> HttpError:
    """What a client is told whose time is over, or too short."""
    time_ms = 1000 * (exchange.deadline_s - exchange.came_s)
    if needed_s:
        needed_ms = 1000 * needed_s
        message = (
            f"no answer within the request's time of {time_ms:.0f} ms: a worker would still take {needed_ms:.1f} ms"
        )
        return HttpError(504, message, "dropped")
    if worker_seen:
        return HttpError(504, f"no answer within the request's time of {time_ms:.0f} ms", "timeout")
    return HttpError(
        503, f"no worker was ready within the request's time of {time_ms:.0f} ms", "no_worker", retry_after_s=1.0
    )


def refused(exchange: Exchange, command: Refused, rules: Rules, rows: int, size: int) -> HttpError:
    """What a client is told for whose request there is no place, while so many rows and bytes wait."""
    retry_after_s = command.retry_after_s
    if command.reason is Reason.TOO_LATE:
        time_ms = 1000 * (exchange.deadline_s - exchange.came_s)
        message = f"what waits takes longer than the request's time of {time_ms:.0f} ms: {rows} rows"
        return HttpError(429, message, "overload", retry_after_s=retry_after_s)
    full = f"the queue is full: {rows} rows wait, of at most {rules.rows_max}"
    if size > rules.bytes_max - command.request.size:
        full = f"the queue is full: {size} bytes wait, of at most {rules.bytes_max}"
    if command.reason is Reason.PUSHED_OUT:
        full += "; this one's place went to a more urgent one, or to a caller with less than its share"
    outcome = "queue_full" if command.reason is Reason.FULL else "pushed_out"
    return HttpError(429, full, outcome, retry_after_s=retry_after_s)

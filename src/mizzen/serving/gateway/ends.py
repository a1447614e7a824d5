"""How exchanges end: each passes here once, answered, refused or left, and is counted, and noted where it is logged.

An answer is in the prediction log before it leaves: so the answers of a batch are held until all are noted.

Whoever wants to know of every request (metrics, a log of predictions) needs to look nowhere else.
"""

import logging
from collections.abc import Callable, Sequence

from mizzen.policy.queue import Failed, Reason, Refused, Rules
from mizzen.serving.gateway.errors import CANCELLED, INTERNAL, HttpError
from mizzen.serving.gateway.exchange import Exchange
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.gateway.parts import PartsExchange
from mizzen.serving.gateway.recorder import Recorder
from mizzen.serving.gateway.served import Served
from mizzen.serving.tensors import BadTensorError, Tensor

log = logging.getLogger("mizzen.gateway")


class Ends:
    """The ends of one endpoint's exchanges."""

    def __init__(
        self,
        endpoint: str,
        measures: Measures,
        served_as: Callable[[str], Served | None],
        recorder: Recorder | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._measures = measures
        self._served_as = served_as
        """The version of a digest."""
        self.recorder = recorder
        """Notes requests for the prediction log; `None`: they are not logged."""
        self._held: list[tuple[Exchange, Served, Sequence[Tensor], float]] | None = None
        """Answers that are noted, and leave once the log has them."""

    def hold(self, batch_rows: int, compute_s: float) -> None:
        """What is answered until `release` came out of such a batch, and is noted together."""
        if self.recorder is not None:
            self.recorder.batch(batch_rows, compute_s)
            self._held = []

    def release(self) -> None:
        """The batch is through: what was noted of it is in the log, and now its answers leave."""
        held, self._held = self._held, None
        if held is not None:
            if self.recorder is not None:
                self.recorder.flush()
            for answer in held:
                self._write(*answer)

    def answer(self, exchange: Exchange, served: Served, outputs: Sequence[Tensor], now: float) -> None:
        """With that version's outputs."""
        recorder = self.recorder
        if recorder is None:
            self._write(exchange, served, outputs, now)
            return
        recorder.answered(exchange, served, outputs, now)
        if self._held is None:
            recorder.flush()
            self._write(exchange, served, outputs, now)
        else:
            self._held.append((exchange, served, outputs, now))

    def _write(self, exchange: Exchange, served: Served, outputs: Sequence[Tensor], now: float) -> None:
        decoded = exchange.decoded
        assert decoded is not None, "what was queued was decoded"
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
            self._measures.answered(decoded.rows, now - exchange.came_s, served.counted)
            if exchange.observed is not None:
                exchange.observed.done(exchange, decoded, 200, "ok")

    def part(
        self, exchange: PartsExchange, served: Served, outputs: Sequence[Tensor], compute_s: float, now: float
    ) -> None:
        """One part of the answer, in the log before it leaves. Raises `BadTensorError` or `HttpError`, with nothing
        sent, where it does not fit.
        """
        if exchange.one_part and exchange.parts:
            raise HttpError(400, "the model gave more than one part; ask with generate_stream", "bad_request")
        if self.recorder is not None:
            self.recorder.part(exchange, served, outputs, compute_s, now)
        exchange.part(served, outputs)
        exchange.parts += 1

    def streamed(self, exchange: PartsExchange, served: Served, now: float) -> None:
        """All parts of the answer were passed on. They are counted as one."""
        decoded = exchange.decoded
        if self.recorder is not None:
            self.recorder.streamed(exchange, served, now)
        exchange.end()
        self._measures.answered(1, now - exchange.came_s, served.counted)
        if exchange.observed is not None:
            exchange.observed.done(exchange, decoded, 200, "ok")

    def refuse(self, exchange: Exchange, error: HttpError) -> None:
        """With an error."""
        if exchange.done:
            return
        self._measures.outcome(error.outcome)
        self._note(exchange, error)
        exchange.refuse(error)

    def leave(self, exchange: Exchange) -> None:
        """The client has gone."""
        self._note(exchange, CANCELLED)
        exchange.abandon()
        self._measures.outcome(CANCELLED.outcome)

    def _note(self, exchange: Exchange, error: HttpError) -> None:
        if exchange.ticket is not None:
            served = self._served_as(exchange.ticket.lane)
        else:
            served = exchange.served if isinstance(exchange, PartsExchange) else None
        if served is not None:
            served.counted.failed += 1
        if self.recorder is not None:
            self.recorder.refused(exchange, served, error)
        if exchange.observed is not None:
            exchange.observed.done(exchange, exchange.decoded, error.status, error.outcome)


def failed(command: Failed) -> HttpError:
    """What a client is told whose request the model refused, or that was lost with its workers."""
    if command.invalid:
        return HttpError(400, command.message, "bad_request")
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

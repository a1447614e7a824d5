"""Notes requests and their answers for the prediction log: one endpoint's, in one process.

It is the only part of the log on a request's way (`mizzen.serving.predictionlog` has the rest). What was answered
together is noted together: `answered` keeps references, and `flush`, at the end of the batch and before its answers
leave, makes one chunk of them and copies it into the ring. Nothing here waits and nothing raises: what cannot be
noted is counted.

Which requests are noted is a function of their id, or of their unit, so all processes and all restarts agree: the
hash of it, as a number from 0 to 1, is below the sampling rate. What fails is noted in any case, unless the endpoint
says otherwise.
"""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mizzen.serving.gateway.directory import Endpoint, Logging
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import Exchange
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.gateway.parts import PartsExchange
from mizzen.serving.gateway.served import Served
from mizzen.serving.oip import InferenceRequest
from mizzen.serving.predictionlog.layout import STREAM_ENDING, folder_of
from mizzen.serving.predictionlog.record import Stream, encode_chunk, is_fixed, joined, redactions, stream_id
from mizzen.serving.predictionlog.ring import RingError, RingProducer
from mizzen.serving.tensors import Tensor

log = logging.getLogger("mizzen.gateway")
RETRY_S = 5.0
"""How long a folder that refuses a ring or a stream is let be."""
CHUNK_ROWS = 4096
"""A chunk is written once it has so many rows, though more of its batch follows."""
ERROR_CHARACTERS_MAX = 1000
_SCALE = 1 / 2**64


def share_of(text: str) -> float:
    """A number from 0 to 1 that is the text's own: what is below the sampling rate is sampled.

    >>> share_of("a") == share_of("a"), 0 <= share_of("b") < 1
    (True, True)
    """
    hashed = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(hashed, "little") * _SCALE


class _Noted:
    """How the records of one version are written."""

    __slots__ = (
        "fixed_features", "fixed_inputs", "fixed_outputs", "hidden_features", "hidden_inputs", "hidden_outputs", "name",
        "stream",
    )  # fmt: skip

    def __init__(self, endpoint: Endpoint, options: Logging, served: Served | None) -> None:
        owner: dict[str, Any] = {
            "namespace": endpoint.namespace, "endpoint": endpoint.name,
            "redact": options.redact, "sink": options.sink, "events": options.events,
        }  # fmt: skip
        if served is not None:
            version, signature = served.version, served.signature
            owner |= {
                "model": version.model, "version": version.version, "digest": version.digest,
                "inputs": signature.inputs, "outputs": signature.outputs, "columns": signature.columns,
            }  # fmt: skip
            if served.features is not None:
                owner |= {
                    "inputs": served.asked.inputs, "columns": served.asked.columns,
                    "features": signature.inputs, "feature_columns": signature.columns,
                }  # fmt: skip
        self.stream = stream = Stream(**owner)
        self.name = stream_id(stream)
        together = stream.signature.batchable
        self.fixed_inputs, self.fixed_outputs = (
            together and is_fixed(stream.inputs),
            together and is_fixed(stream.outputs),
        )
        self.fixed_features = together and is_fixed(stream.features)
        self.hidden_features = redactions(stream.features, stream.feature_columns, options.redact)
        self.hidden_inputs = redactions(stream.inputs, stream.columns, options.redact)
        self.hidden_outputs = redactions(stream.outputs, (), options.redact)


class Recorder:
    """One endpoint's log in this process."""

    def __init__(
        self,
        base: Path,
        endpoint: Endpoint,
        clock: Callable[[], float],
        wall: Callable[[], float] = time.time,
        id_prefix: str | None = None,
        measures: Measures | None = None,
    ) -> None:
        self._measures = measures if measures is not None else Measures()
        self.folder = folder_of(base, endpoint.namespace, endpoint.name)
        self._clock, self._wall = clock, wall
        self._prefix = id_prefix if id_prefix is not None else os.urandom(6).hex()
        self._ids = 0
        self._ring: RingProducer | None = None
        self._retry_at_s = float("-inf")
        self._lost_unwritten = 0
        """Lost while there was no ring to count them in."""
        self._noted: dict[Served | None, _Noted] = {}
        self._served: Served | None = None
        self._records: list[tuple[Any, ...]] = []
        self._inputs: list[Sequence[Tensor]] = []
        self._features: list[Sequence[Tensor]] = []
        self._outputs: list[Sequence[Tensor]] = []
        self._rows = 0
        self._compute_s: float | None = None
        self._batch_rows: int | None = None
        self._endpoint = endpoint
        self._options = endpoint.logging or Logging()

    def update(self, endpoint: Endpoint) -> None:
        """The endpoint is declared so from now on."""
        self.flush()
        if endpoint != self._endpoint:
            self._noted.clear()
            self._endpoint = endpoint
            self._options = endpoint.logging or Logging()

    @property
    def recorded(self) -> int:
        """Records that were put into the ring."""
        return self._measures.logged

    @property
    def lost(self) -> int:
        """Records that were not logged for want of room, by this process and those before it in its ring."""
        return self._lost_unwritten + (self._ring.lost if self._ring is not None else 0)

    def close(self) -> None:
        """Lets go of the ring; what is in it is still read."""
        self.flush()
        ring, self._ring = self._ring, None
        if ring is not None:
            ring.close()

    def new_id(self) -> str:
        """An id for a request that came without one."""
        self._ids += 1
        return f"{self._prefix}-{self._ids:x}"

    def batch(self, rows: int, compute_s: float) -> None:
        """What is answered next came out of such a batch."""
        self._batch_rows, self._compute_s = rows, compute_s

    def answered(self, exchange: Exchange, served: Served, outputs: Sequence[Tensor], now: float) -> None:
        """A request is about to be answered with these outputs of that version, after `flush`. It gets an id if it has
        none.
        """
        decoded = exchange.decoded
        assert decoded is not None, "what is answered was decoded"
        if decoded.id is None:
            decoded.id = self.new_id()
        options = self._options
        if options.sample < 1.0 and not self._is_sampled(exchange, decoded.id):
            return
        if served is not self._served:
            self.flush()
            self._served = served
        came_s, sent_s, rows = exchange.came_s, exchange.sent_s, decoded.rows
        if not rows:
            self._served, rows = None, 1  # a request without rows has one in the table, without values
        self._records.append((
            decoded.id, rows, came_s, sent_s - came_s if sent_s is not None else None, self._compute_s,
            now - came_s, self._batch_rows, exchange.tenant or None, exchange.unit,
            _assignment(exchange), exchange.trace_id, 200, "ok", None,
        ))  # fmt: skip
        if not decoded.rows:
            self.flush()
            return
        self._inputs.append(decoded.inputs if decoded.given is None else decoded.given)
        if decoded.given is not None:
            self._features.append(decoded.inputs)
        self._outputs.append(outputs)
        self._rows += rows
        if self._rows >= CHUNK_ROWS:
            self.flush()

    def part(
        self, exchange: PartsExchange, served: Served, outputs: Sequence[Tensor], compute_s: float, now: float
    ) -> None:
        """A part of an answer is about to be passed on. The request gets an id if it has none."""
        decoded = exchange.decoded
        assert decoded is not None, "what is answered was decoded"
        if decoded.id is None:
            decoded.id = self.new_id()
        if self._options.sample < 1.0 and not self._is_sampled(exchange, decoded.id):
            return
        self.flush()
        rows = outputs[0].shape[0] if served.batchable else 1
        first = exchange.parts == 0
        together = first and rows == decoded.rows
        self._compute_s, self._batch_rows, self._served = compute_s, None, served
        if first and not together:
            self._asked(exchange, served, decoded, now)
        if rows:
            self._one(exchange, served, rows, now, exchange.parts)
            self._outputs.append(outputs)
            if together:
                self._inputs.append(decoded.inputs)
            self.flush()
        exchange.noted = True

    def streamed(self, exchange: PartsExchange, served: Served, now: float) -> None:
        """All parts were passed on. They are noted, but where there were none."""
        decoded = exchange.decoded
        assert decoded is not None, "what is answered was decoded"
        if not exchange.parts:
            if decoded.id is None:
                decoded.id = self.new_id()
            if self._is_sampled(exchange, decoded.id):
                self.flush()
                self._compute_s = None
                self._asked(exchange, served, decoded, now)

    def _asked(self, exchange: Exchange, served: Served, decoded: InferenceRequest, now: float) -> None:
        """The request without its answer."""
        self._one(exchange, served, decoded.rows, now, None)
        self._inputs.append(decoded.inputs)
        self.flush()

    def _one(self, exchange: Exchange, served: Served, rows: int, now: float, part: int | None) -> None:
        decoded, came_s, sent_s = exchange.decoded, exchange.came_s, exchange.sent_s
        self._served = served
        self._records.append((
            decoded.id if decoded is not None else None, rows, came_s, sent_s - came_s if sent_s is not None else None,
            self._compute_s, now - came_s, None, exchange.tenant or None, exchange.unit, _assignment(exchange),
            exchange.trace_id, 200, "ok", None, part,
        ))  # fmt: skip

    def refused(self, exchange: Exchange, served: Served | None, error: HttpError) -> None:
        """A request had no answer, or not all of it. `served` is the version that was to answer, where one was
        chosen.
        """
        decoded, options = exchange.decoded, self._options
        part: int | None = None
        if isinstance(exchange, PartsExchange) and exchange.noted:
            part = exchange.parts  # its inputs are there already
        id_ = (decoded.id if decoded is not None else None) or self.new_id()
        if not options.errors and not self._is_sampled(exchange, id_):
            return
        self.flush()
        now, came_s, sent_s = self._clock(), exchange.came_s, exchange.sent_s
        known = decoded is not None and served is not None and part is None
        self._served = served
        self._records.append((
            id_, decoded.rows if decoded is not None and known else 1, came_s,
            sent_s - came_s if sent_s is not None else None, None, now - came_s, None,
            exchange.tenant or None, exchange.unit,
            None if served is None else _assignment(exchange), exchange.trace_id,
            error.status, error.outcome, error.message[:ERROR_CHARACTERS_MAX], part,
        ))  # fmt: skip
        if known and decoded is not None:
            self._inputs.append(decoded.inputs if decoded.given is None else decoded.given)
            if decoded.given is not None:
                self._features.append(decoded.inputs)
        self.flush()

    def flush(self) -> None:
        """Puts what was noted into the ring."""
        records = self._records
        if not records:
            return
        ring = self._ring or self._open()
        written = False
        if ring is not None:
            try:
                written = ring.write(self._chunk(), len(records))
            except (OSError, ValueError, TypeError) as error:  # an id that is no Unicode, a disk without room
                log.warning("%s: %d records are lost: %s", self.folder.name, len(records), error)
                ring.count_lost(len(records))
        else:
            self._lost_unwritten += len(records)
        if written:
            self._measures.logged += len(records)
        records.clear()
        self._inputs.clear()
        self._features.clear()
        self._outputs.clear()
        self._rows = 0

    # Inside

    def _is_sampled(self, exchange: Exchange, id_: str) -> bool:
        options = self._options
        unit = exchange.unit if options.by == "unit" else None
        return share_of(unit or id_) < options.sample

    def _chunk(self) -> bytes:
        noted = self._noted.get(self._served) or self._note(self._served)
        stream, inputs, outputs, features = noted.stream, self._inputs, self._outputs, self._features
        chunk: tuple[Any, ...] = (
            noted.name, self._wall() - self._clock(), self._records,
            joined(inputs, stream.inputs, noted.hidden_inputs) if inputs else [],
            joined(outputs, stream.outputs, noted.hidden_outputs) if outputs else [],
            joined(features, stream.features, noted.hidden_features) if features else [],
            None if noted.fixed_inputs or not inputs else _shapes(inputs),
            None if noted.fixed_outputs or not outputs else _shapes(outputs),
            None if noted.fixed_features or not features else _shapes(features),
        )  # fmt: skip
        return encode_chunk(chunk)

    def _note(self, served: Served | None) -> _Noted:
        """Says once what the records of a version mean. Raises `OSError` where that cannot be written."""
        noted = _Noted(self._endpoint, self._options, served)
        path = self.folder / f"{noted.name}{STREAM_ENDING}"
        if not path.exists():
            partial = path.with_suffix(f".{os.getpid()}.partial")
            partial.write_bytes(noted.stream.encoded())
            partial.replace(path)
        self._noted[served] = noted
        return noted

    def _open(self) -> RingProducer | None:
        now = self._clock()
        if now < self._retry_at_s:
            return None
        try:
            self._ring = RingProducer.open(self.folder, self._options.buffer_bytes)
        except RingError as error:
            self._retry_at_s = now + RETRY_S
            log.warning("%s: the prediction log has no ring: %s", self.folder.name, error)
            return None
        self._ring.count_lost(self._lost_unwritten)
        self._lost_unwritten = 0
        return self._ring


def _assignment(exchange: Exchange) -> str:
    return "traffic" if exchange.pinned is None else "pinned"


def _shapes(tensors: Sequence[Sequence[Tensor]]) -> list[list[tuple[int, ...]]]:
    return [[tensor.shape for tensor in one] for one in tensors]

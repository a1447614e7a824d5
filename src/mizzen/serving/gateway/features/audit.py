"""Records a sample of online reads, to be computed again offline and compared (`mizzen.data.features.jobs.audit`).

Entities are drawn and not reads, by a hash of their keys, so that all gateways record the same ones and an entity that
is drawn is seen over time. A read goes the way of the prediction log, through a ring of this process, into the table
`predictions/NAMESPACE/VIEW.reads`: one row for each entity read, with its keys, the moment to the microsecond, and its
features as JSON. The request's answer does not wait for it, and does not hang on it: what finds no room is lost.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.types as pt

from mizzen.data.features.online.reader import OnlineReader
from mizzen.serving.gateway.features.lookup import Entity
from mizzen.serving.gateway.recorder import share_of
from mizzen.serving.predictionlog.layout import STREAM_ENDING, folder_of
from mizzen.serving.predictionlog.record import Stream, encode_chunk, stream_id
from mizzen.serving.predictionlog.ring import RingError, RingProducer
from mizzen.serving.tensors import DATATYPES, TensorSpec, pack_elements, pack_strings

log = logging.getLogger("mizzen.gateway")
READS = ".reads"
"""After the view's name, where endpoints have theirs in the prediction log."""
RING_BYTES = 4 << 20
RETRY_S = 5.0
AT, VALUES = "at_us", "values"
_encode = msgspec.json.Encoder().encode


class ReadsRecorder:
    """Of one version of one view, in this process."""

    def __init__(
        self,
        base: Path,
        namespace: str,
        reader: OnlineReader,
        digest: str,
        sample: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader, self.sample, self._clock = reader, sample, clock
        definition = reader.view.definition
        name = definition.name + READS
        self._whole = [pt.is_integer(type_) for type_ in reader.view.key_types]
        inputs = [
            TensorSpec(key.name, "INT64" if whole else "BYTES", (-1, 1))
            for key, whole in zip(definition.keys, self._whole, strict=True)
        ]
        self._stream = Stream(
            namespace=namespace, endpoint=name, model=definition.name, digest=digest,
            inputs=(*inputs, TensorSpec(AT, "INT64", (-1, 1))), features=(TensorSpec(VALUES, "BYTES", (-1, 1)),),
        )  # fmt: skip
        self._id = stream_id(self._stream)
        self._folder = folder_of(base, namespace, name)
        self._ring: RingProducer | None = None
        self._retry_at_s = float("-inf")

    def note(self, entities: Sequence[Entity], records: Sequence[bytes], found: Sequence[bool], at_us: int) -> None:
        """Records those of the entities that are drawn. Never raises."""
        drawn = [at for at, entity in enumerate(entities) if share_of(key_text(entity)) < self.sample]
        if not drawn:
            return
        ring = self._ring or self._open()
        if ring is None:
            return
        values = [self._reader.values(records[at], at_us) for at in drawn]
        columns = [
            pack_elements(DATATYPES["INT64"], [entities[at][number] for at in drawn]) if whole
            else pack_strings([entities[at][number].encode() for at in drawn])
            for number, whole in enumerate(self._whole)
        ]  # fmt: skip
        columns.append(pack_elements(DATATYPES["INT64"], [at_us] * len(drawn)))
        packed = pack_strings([_encode({name: plain(value) for name, value in one.items()}) for one in values])
        now = self._clock()
        outcome = ["present" if found[at] else "missing" for at in drawn]
        rows = [("", 1, now, None, None, 0.0, None, None, None, None, None, 200, what, None) for what in outcome]
        chunk: tuple[Any, ...] = (self._id, at_us / 1e6 - now, rows, columns, [], [packed], None, None, None)
        try:
            ring.write(encode_chunk(chunk), len(drawn))
        except (OSError, ValueError) as error:
            log.warning("%s: %d reads are not recorded: %s", self._folder.name, len(drawn), error)

    def close(self) -> None:
        """Lets go of the ring; what is in it is still taken."""
        ring, self._ring = self._ring, None
        if ring is not None:
            ring.close()

    def _open(self) -> RingProducer | None:
        now = self._clock()
        if now < self._retry_at_s:
            return None
        try:
            self._ring = RingProducer.open(self._folder, RING_BYTES)
            path = self._folder / f"{self._id}{STREAM_ENDING}"
            if not path.exists():
                partial = path.with_suffix(".partial")
                partial.write_bytes(self._stream.encoded())
                partial.replace(path)
        except (RingError, OSError) as error:
            self._retry_at_s = now + RETRY_S
            log.warning("%s: reads are not recorded: %s", self._folder.name, error)
        return self._ring


def key_text(entity: Entity) -> str:
    """What an entity is drawn by."""
    return "\0".join(map(str, entity))


def plain(value: Any) -> Any:
    """A value as JSON has it: what JSON cannot say is text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value.hex() if isinstance(value, bytes) else value

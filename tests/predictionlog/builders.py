"""Records, recorders and journals with sensible defaults."""

import itertools
import struct
import time
from pathlib import Path

import numpy as np

from mizzen.data.lake.objects import Store
from mizzen.serving.gateway.directory import Endpoint, Logging, Version
from mizzen.serving.gateway.exchange import HttpExchange
from mizzen.serving.gateway.recorder import Recorder
from mizzen.serving.gateway.served import Served
from mizzen.serving.oip import InferenceRequest
from mizzen.serving.predictionlog.journal import Journal, Limits
from mizzen.serving.predictionlog.layout import folder_of, table_path
from mizzen.serving.predictionlog.table import LogTable
from mizzen.serving.tensors import DATATYPES, Signature, Tensor, TensorSpec, pack_strings

SUM = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1,)),), ("a", "b"))
"""Two named columns in, one number out."""


def version(number: int = 1, signature: Signature = SUM) -> Version:
    return Version("m", number, f"sha256:{number:064x}", 100, signature)


def endpoint(*versions: Version, **logging) -> Endpoint:
    return Endpoint("default", "m", anonymous=True, versions=versions or (version(),), logging=Logging(**logging))


def tensor(spec: TensorSpec, values, shape) -> Tensor:
    if spec.datatype == "BYTES":
        return Tensor(spec.name, spec.datatype, shape, pack_strings(list(values)))
    code = DATATYPES[spec.datatype].code
    flat = np.asarray(values).ravel().tolist()
    return Tensor(spec.name, spec.datatype, shape, struct.pack(f"<{len(flat)}{code}", *flat))


class Log:
    """One endpoint's log in a folder: what a gateway, the writer and the store are to it."""

    def __init__(self, base: Path, declared: Endpoint | None = None, limits: Limits | None = None) -> None:
        self.base = base
        self.declared = declared if declared is not None else endpoint()
        self.limits = limits if limits is not None else Limits(compact_every=0)
        self.clock = time.monotonic
        self.numbers = itertools.count(1)
        self.table = LogTable(Store.open(f"file://{base}/store"), table_path("default", self.declared.name))

    @property
    def folder(self) -> Path:
        return folder_of(self.base / "rings", "default", self.declared.name)

    def recorder(self, **more) -> Recorder:
        return Recorder(self.base / "rings", self.declared, self.clock, **more)

    def journal(self) -> Journal:
        journal = Journal(self.folder, self.base / "spool" / self.folder.name, self.limits)
        journal.look()
        return journal

    def everything(self, journal: Journal | None = None) -> list[dict]:
        """Brings all that waits to the table; its rows, in the order in which requests came."""
        journal = journal if journal is not None else self.journal()
        while True:
            drained = journal.drain()
            journal.seal(now=True)
            if not journal.commit(self.table) and not drained:
                break
        found = self.table.arrow()
        return (
            []
            if found is None
            else sorted(found.to_pylist(), key=lambda row: (row["time"], row["request_id"], row["row"]))
        )


def exchange(clock=time.monotonic, *, tenant="", unit=None, pinned=None) -> HttpExchange:
    now = clock()
    made = HttpExchange(None, b"", None, now, now + 30)
    made.sent_s = now + 0.001
    made.tenant, made.unit, made.pinned = tenant, unit, pinned
    return made


def served(of: Version | None = None) -> Served:
    chosen = of if of is not None else version()
    return Served("m", chosen, chosen.signature)


def answer(recorder: Recorder, id_: str, rows=((1.0, 2.0),), by: Served | None = None, **more) -> None:
    """A request of these rows was answered with their sums."""
    by = by if by is not None else served()
    made = exchange(**more)
    asked = InferenceRequest([tensor(by.signature.inputs[0], rows, (len(rows), 2))], len(rows), id=id_)
    sums = [sum(row) for row in rows]
    recorder.batch(len(rows), 0.0005)
    made.decoded = asked
    recorder.answered(made, by, [tensor(by.signature.outputs[0], sums, (len(rows),))], made.came_s + 0.002)

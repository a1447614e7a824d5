"""Features of requests: computed by workers that run the user's functions, asked as workers of models are.

Before them stands a queue like an endpoint's, one for each view (`source.FeatureSource.functions`): deadlines, lost
workers and back-pressure are those that every request has.
"""

from collections.abc import Callable, Sequence

import pyarrow as pa

from mizzen.data.features.errors import RequestUnfit
from mizzen.serving.arrow import read, written
from mizzen.serving.functions import WANTED
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import Exchange
from mizzen.serving.gateway.features.columns import Used, inputs_of
from mizzen.serving.gateway.features.lookup import Looked, Read
from mizzen.serving.gateway.features.source import Asking
from mizzen.serving.gateway.served import Served
from mizzen.serving.oip import InferenceRequest
from mizzen.serving.tensors import Tensor, pack_strings, unpack_strings

Then = Callable[[Sequence[pa.Array] | HttpError], None]


class Call(Exchange):
    """One request to the functions of a view."""

    __slots__ = ("_rows", "_then", "_wanted")

    def __init__(self, rows: pa.Table, wanted: Sequence[str], came_s: float, deadline_s: float, then: Then) -> None:
        super().__init__(came_s, deadline_s)
        self._rows, self._wanted, self._then = rows, wanted, then

    def read(self, served: Served) -> InferenceRequest:
        del served
        data = written(self._rows, {WANTED: ",".join(self._wanted).encode()})
        return InferenceRequest([Tensor("rows", "BYTES", (1,), pack_strings([data]))], 1)

    def write(self, served: Served, outputs: Sequence[Tensor]) -> None:
        del served
        table = read(unpack_strings(outputs[0].data)[0])
        self.abandon()
        self._then([table.column(name).combine_chunks() for name in self._wanted])

    def refuse(self, error: HttpError) -> None:
        self.abandon()
        self._then(error)


class Functions:
    """The functions of one view, for an endpoint that uses some of its features of requests."""

    def __init__(self, looked: Looked, wanted: Sequence[str], others: Sequence[Looked], asking: Asking) -> None:
        """Raises `RequestUnfit` where a function takes a feature of a view that is not looked up."""
        self.used: Used = looked.used
        self.wanted, self._asking = wanted, asking
        self._inputs = inputs_of(self.used.view.definition, wanted)
        self._foreign: dict[str, tuple[int, str]] = {}
        for name in self._inputs:
            view, dot, feature = name.partition(".")
            if dot:
                at = [n for n, other in enumerate(others) if other.used.use.view == view]
                if not at or feature not in others[at[0]].reader.view.layout.names:
                    raise RequestUnfit(
                        f"FeatureView {self.used.use.view}: expected {view} among the views that are looked up, since "
                        f"{name} is an input of its functions"
                    )
                self._foreign[name] = (at[0], feature)

    def call(
        self,
        looked: Sequence[Looked],
        reads: Sequence[Read],
        given: Callable[[str], pa.Array],
        exchange: Exchange,
        then: Then,
    ) -> None:
        """Calls `then` with the wanted features, in their order, or with why there are none. `given` are columns of
        the request by name; what it raises passes through.
        """
        mine = next(at for at, one in enumerate(looked) if one.used is self.used)
        own = looked[mine].table(reads[mine])
        columns: dict[str, pa.Array | pa.ChunkedArray] = {}
        keys = dict(zip((key.name for key in self.used.view.definition.keys), self.used.keys, strict=True))
        for name in self._inputs:
            if name in self._foreign:
                at, feature = self._foreign[name]
                columns[name] = looked[at].table(reads[at]).column(feature)
            elif name in own.column_names:
                columns[name] = own.column(name)
            else:
                columns[name] = given(keys.get(name, name))
        call = Call(pa.table(columns), self.wanted, exchange.came_s, exchange.deadline_s, then)
        self._asking.accept(call)

"""A version that gets traffic, with all that follows from its signature worked out beforehand.

It decodes requests, says which fit together, puts their rows together for a worker, takes the worker's outputs apart
again, and encodes the answers. No element is copied on the way to the worker: a batch is its requests' bytes, one after
the other.
"""

from collections.abc import Hashable, Sequence
from typing import Any, Protocol

from mizzen.policy.queue import Batch
from mizzen.serving.frames import FrameError, TensorHead
from mizzen.serving.gateway.directory import Version
from mizzen.serving.gateway.measures import VersionMeasures
from mizzen.serving.generate import GenerateCodec
from mizzen.serving.oip import InferenceRequest, MessageDecoder, MessageEncoder, RequestDecoder, ResponseEncoder
from mizzen.serving.rows import RowsCodec
from mizzen.serving.tensors import (
    DATATYPES,
    BadTensorError,
    Buffer,
    Signature,
    Tensor,
    TensorSpec,
    element_count,
    row_slices,
)


class FeatureLookup(Protocol):
    """The station where keys become the model's inputs (`features.stage.Bound`)."""

    asked: Signature

    def take(self, exchange: Any, served: "Served") -> None: ...


class Served:
    """One version of one endpoint's model."""

    __slots__ = (
        "_endpoint", "_fixed", "_generating", "_output_names", "_rows", "asked", "batchable", "by_size", "counted",
        "decoder", "digest", "encoder", "features", "message_decoder", "message_encoder", "row_bytes", "signature",
        "version",
    )  # fmt: skip

    def __init__(
        self,
        endpoint: str,
        version: Version,
        signature: Signature,
        counted: VersionMeasures | None = None,
        features: FeatureLookup | None = None,
    ) -> None:
        self._endpoint = endpoint
        self.version = version
        self.counted = counted if counted is not None else VersionMeasures()
        """What it did."""
        self.digest = version.digest
        self.signature = signature
        self.features = features
        """What looks features up for its requests; `None`: they carry all that the model takes."""
        self.asked = signature if features is None else features.asked
        """What requests carry."""
        self.batchable = signature.batchable
        self.decoder = RequestDecoder(self.asked)
        self.encoder = ResponseEncoder(endpoint, str(version.version), signature)
        self.message_decoder = MessageDecoder(self.decoder.expected)
        self.message_encoder = MessageEncoder(endpoint, str(version.version), signature)
        self._rows: RowsCodec | None = None
        self._generating: GenerateCodec | None = None
        self._fixed = all(-1 not in spec.shape[1:] for spec in signature.inputs)
        self.by_size = not self._fixed or any(spec.datatype == "BYTES" for spec in signature.inputs)
        """Whether rows differ in size, so that what they cost is counted in bytes."""
        uniform = self.batchable and not self.by_size
        self.row_bytes = sum(_row_bytes(spec) for spec in signature.inputs) if uniform else 0
        """What each row takes; 0 where rows differ."""
        self._output_names = [spec.name for spec in signature.outputs]

    @property
    def rows(self) -> RowsCodec:
        """The form of requests for people; made when it is first asked for."""
        if self._rows is None:
            self._rows = RowsCodec(self._endpoint, str(self.version.version), self.asked)
        return self._rows

    @property
    def generating(self) -> GenerateCodec:
        """The form of `generate`; made when it is first asked for."""
        if self._generating is None:
            self._generating = GenerateCodec(self._endpoint, str(self.version.version), self.asked)
        return self._generating

    def group(self, request: InferenceRequest) -> Hashable:
        """Requests of equal groups fit together: the shapes of their rows are the same."""
        return None if self._fixed else tuple(tensor.shape[1:] for tensor in request.inputs)

    def parts(self, batch: Batch, tensors: Sequence[Tensor]) -> Sequence[Sequence[Tensor]]:
        """Each request's outputs, in the signature's order. Raises `BadTensorError` where they do not come apart."""
        outputs = self.outputs(tensors)
        if len(batch.requests) == 1:
            return [outputs]
        rows = [ticket.rows for ticket in batch.requests]
        return list(zip(*(row_slices(tensor, rows) for tensor in outputs), strict=True))

    def outputs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """What a worker sent, in the signature's order. Raises `BadTensorError` where one is missing."""
        by_name = {tensor.name: tensor for tensor in tensors}
        try:
            return [by_name[name] for name in self._output_names]
        except KeyError as error:
            raise BadTensorError(f"the worker sent no output {error.args[0]!r}") from error

    def check_fits(self, found: Signature) -> None:
        """Raises `FrameError` where a worker's model does not take these inputs and give at least these outputs."""
        expected = self.signature
        inputs = {(spec.name, spec.datatype) for spec in found.inputs}
        outputs = {(spec.name, spec.datatype) for spec in found.outputs}
        if inputs != {(spec.name, spec.datatype) for spec in expected.inputs} or not outputs >= {
            (spec.name, spec.datatype) for spec in expected.outputs
        }:
            raise FrameError(f"expected a worker for {expected}, got one for {found}")


def _row_bytes(spec: TensorSpec) -> int:
    return element_count(spec.shape[1:]) * DATATYPES[spec.datatype].size


def joined(requests: Sequence[Sequence[Tensor]]) -> tuple[tuple[TensorHead, ...], list[Buffer]]:
    """The rows of all requests as one batch: what the frame's header says of each input, and the data in order."""
    if len(requests) == 1:
        (inputs,) = requests
        return tuple(TensorHead(t.name, t.datatype, t.shape, len(t.data)) for t in inputs), [t.data for t in inputs]
    heads, data = [], []
    for column in zip(*requests, strict=True):
        rows = size = 0
        for tensor in column:
            rows += tensor.shape[0]
            size += len(tensor.data)
            data.append(tensor.data)
        first = column[0]
        heads.append(TensorHead(first.name, first.datatype, (rows, *first.shape[1:]), size))
    return tuple(heads), data

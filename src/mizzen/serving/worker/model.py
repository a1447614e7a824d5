"""A loaded model, whatever computes it: tensors in, tensors out, and the warm-up before it is ready.

The warm-up runs the model's example, and then every batch size that the task names, made of the example's rows over and
over: what a library does only once for a shape (allocating, choosing a kernel, compiling) is done before a client waits
for it. How long each size took is told to the gateways with the greeting.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

from mizzen.serving.frames import Parameter
from mizzen.serving.oip import BadRequestError, RequestDecoder
from mizzen.serving.tensors import BadTensorError, Buffer, Tensor, row_slices
from mizzen.serving.worker.arrays import Array, array_of, tensor_of, zeros
from mizzen.serving.worker.errors import BatchError, InvalidBatchError, TaskError
from mizzen.serving.worker.runtimes.runtime import Runtime

SECOND_RUNS_S_MAX = 5.0
"""A size is measured by a second run, which shows what the first no longer pays for; sizes beyond this are not."""
Profile = tuple[tuple[int, float], ...]
"""(rows, seconds), smallest first."""


class Model:
    """One model; for one thread at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.signature = runtime.signature
        self.streams = runtime.streams
        self.steady = runtime.steady
        self._outputs = runtime.signature.outputs

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The outputs, in the signature's order. Raises `BatchError`."""
        outputs = self.runtime.run(self._arrays(tensors))
        return [tensor_of(spec, output) for spec, output in zip(self._outputs, outputs, strict=True)]

    def generate(self, tensors: Sequence[Tensor], parameters: Mapping[str, Parameter]) -> Iterator[list[Tensor]]:
        """The outputs part by part. Raises `BatchError`, also between parts."""
        parts = self.runtime.generate(self._arrays(tensors), parameters)
        try:
            for outputs in parts:
                yield [tensor_of(spec, output) for spec, output in zip(self._outputs, outputs, strict=True)]
        finally:
            if isinstance(parts, Generator):  # where the stream was left before its end: on this thread, and now
                parts.close()

    def warm_up(
        self, example: bytes | None, batch_rows: Sequence[int] = (), clock: Callable[[], float] = time.monotonic
    ) -> Profile:
        """Runs the example (zeros where there is none) and batches of those sizes.

        Returns what was measured. Raises `TaskError` where the model refuses its own example.
        """
        try:
            if example is None:
                tensors = [zeros(spec, 1) for spec in self.signature.inputs]
            else:
                tensors = RequestDecoder(self.signature).decode(example, None).inputs
        except BadRequestError as error:
            raise TaskError(f"the model's example does not fit its signature: {error}") from error
        try:
            self.run(tensors)
        except BatchError as error:
            if example is not None:
                raise TaskError(f"the model cannot run its own example: {error}") from error
            return ()  # zeros may be no sensible input for it
        if not self.signature.batchable or not tensors[0].shape[0]:
            return ()
        return self._profile(tensors, sorted(set(batch_rows)), clock)

    def _profile(self, example: Sequence[Tensor], batch_rows: Sequence[int], clock: Callable[[], float]) -> Profile:
        measured: list[tuple[int, float]] = []
        second_runs_s = 0.0
        for rows in batch_rows:
            batch = [repeated(tensor, rows) for tensor in example]
            try:
                self.run(batch)
                if second_runs_s < SECOND_RUNS_S_MAX:
                    began_s = clock()
                    self.run(batch)
                    measured.append((rows, clock() - began_s))
                    second_runs_s += measured[-1][1]
            except BatchError as error:
                raise TaskError(f"the model runs its example, but not a batch of {rows} such rows: {error}") from error
        return tuple(measured)

    def _arrays(self, tensors: Sequence[Tensor]) -> dict[str, Array]:
        text = self.runtime.text
        try:
            return {tensor.name: array_of(tensor, text=text) for tensor in tensors}
        except BadTensorError as error:
            raise InvalidBatchError(str(error)) from error


def repeated(tensor: Tensor, rows: int) -> Tensor:
    """That many rows: the tensor's own, from the first on, as often as it takes."""
    there = tensor.shape[0]
    whole, rest = divmod(rows, there)
    data: list[Buffer] = [tensor.data] * whole
    if rest:
        data.append(row_slices(tensor, [rest, there - rest])[0].data)
    return Tensor(tensor.name, tensor.datatype, (rows, *tensor.shape[1:]), b"".join(data))

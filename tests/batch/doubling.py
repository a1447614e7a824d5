"""A model in this process, for tests of everything but workers: it doubles `x`, and refuses numbers divisible by 97."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.serving.builders import tensor

from mizzen.serving.batch.predictor import Refused
from mizzen.serving.tensors import DATATYPES, Tensor, unpack_elements

DIGEST = "sha256:" + "0" * 64
DOUBLING = {
    "inputs": [{"name": "x", "datatype": "INT64", "shape": [-1]}],
    "outputs": [{"name": "y", "datatype": "INT64", "shape": [-1]}],
}


class Doubling:
    width, rows_max = 3, 10

    async def predict(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        values = unpack_elements(DATATYPES["INT64"], inputs[0].shape[0], inputs[0].data)
        await asyncio.sleep(0)
        if wrong := [value for value in values if value % 97 == 0]:
            raise Refused(f"refused {wrong[0]}")
        return [tensor([2 * value for value in values], "INT64", name="y")]


@asynccontextmanager
async def doubling(*_: object) -> AsyncIterator[Doubling]:
    yield Doubling()

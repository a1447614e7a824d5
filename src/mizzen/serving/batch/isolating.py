"""All rows of a group asked for, and each row that cannot be answered told apart from its neighbours.

A group goes in slices, several at once. A slice that is refused is halved until the row at fault is alone. A slice with
which a worker was lost is asked for again with nothing else at work, so that, lost again, it is that slice and no other
that is to blame, and it is halved; a row that loses a worker three times alone is at fault. A slice that comes too soon
waits, as long as it is told or longer each time.

Where not one row of the first `HOPELESS` was taken, it is not the rows: the run fails, and does not go on to halve all
of them. So it does once more rows have failed than the spec allows.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mizzen.data.pod import Failure
from mizzen.serving.batch.encoding import Refused as RefusedRows
from mizzen.serving.batch.predictor import Again, Gone, Lost, Predictor, Refused
from mizzen.serving.tensors import Tensor, row_slices

HOPELESS = 64
LOSSES_MAX = 3
WORKING_MAX = 64
"""Slices that are looked after at once; how many of them are asked for is the predictor's to say."""
PAUSE_S_FIRST, PAUSE_S_MAX = 0.1, 10.0
MESSAGE_MAX = 500


@dataclass(slots=True)
class Slice:
    """Neighbouring rows on their way: the first one's place, how many, and their inputs."""

    start: int
    rows: int
    inputs: Sequence[Tensor]
    losses: int = 0
    pauses: int = 0


class Turns:
    """Several at work at once, or one alone."""

    def __init__(self) -> None:
        self._at_work = 0
        self._alone = False
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def turn(self, width: Callable[[], int], *, alone: bool) -> AsyncIterator[None]:
        """Holds a turn, among at most `width()` or alone."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: not self._alone and (self._at_work == 0 if alone else self._at_work < max(1, width()))
            )
            self._at_work += 1
            self._alone = alone
        try:
            yield
        finally:
            async with self._changed:
                self._at_work -= 1
                self._alone = False
                self._changed.notify_all()


class Isolating:
    """Asks one predictor for the rows of one run."""

    def __init__(
        self,
        predictor: Predictor,
        slice_rows: int,
        failed_max: int | None = None,
        tell: Callable[[str], None] = lambda _: None,
        chance: random.Random | None = None,
    ) -> None:
        """`failed_max`: how many rows may fail in all (`None`: any). `tell` hears what is waited for; "" is nothing."""
        self.predictor = predictor
        self.succeeded = 0
        self.failed = 0
        self._slice_rows = slice_rows
        self._failed_max = failed_max
        self._tell = tell
        self._chance = chance or random.Random()  # noqa: S311 - spreads load
        self._turns = Turns()

    async def answer(self, inputs: Sequence[Tensor], rows: int) -> tuple[list[Sequence[Tensor]], RefusedRows]:
        """The answers in the order of the rows, without those that failed, and why each of these did.

        Raises `Failure` where the run is to end, and `Gone`.
        """
        answers: dict[int, Sequence[Tensor]] = {}
        refused: RefusedRows = {}
        waiting = deque(_cut(Slice(0, rows, inputs), self._slice_rows)) if rows else deque()

        async def work() -> None:
            while waiting:
                one = waiting.popleft()
                answered, instead = await self._one(one, refused)
                waiting.extendleft(reversed(instead))
                if answered is not None:
                    answers[one.start] = answered

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(len(waiting), WORKING_MAX)):
                    group.create_task(work())
        except* (Failure, Gone) as errors:
            raise errors.exceptions[0] from None
        return [answers[start] for start in sorted(answers)], refused

    def note_refused(self, count: int, why: str) -> None:
        """Rows were refused before the model was asked. Raises `Failure` where it is too many."""
        self.failed += count
        self._check(why)

    async def _one(self, one: Slice, refused: RefusedRows) -> tuple[Sequence[Tensor] | None, list[Slice]]:
        """Its answer, if it has one, and the slices to be asked for in its place."""
        try:
            async with self._turns.turn(lambda: self.predictor.width, alone=one.losses > 0):
                outputs = await self.predictor.predict(one.inputs)
        except Again as error:
            await self._pause(one, error)
            return None, [one]
        except Lost as error:
            one.losses += 1
            if one.losses < (2 if one.rows > 1 else LOSSES_MAX):
                return None, [one]
            why = str(error)
        except Refused as error:
            why = str(error)
        else:
            _expect_rows(outputs, one.rows)
            self.succeeded += one.rows
            return outputs, []
        if one.rows > 1:
            return None, _cut(one, (one.rows + 1) // 2)
        refused[one.start] = why[:MESSAGE_MAX]
        self.failed += 1
        self._check(why)
        return None, []

    async def _pause(self, one: Slice, error: Again) -> None:
        """As long as was said, else longer each time; never just as long as others, who would come again together."""
        longest_s = min(PAUSE_S_FIRST * 2**one.pauses, PAUSE_S_MAX)
        one.pauses += 1
        told_s = error.after_s if error.after_s is not None else 0.5 * longest_s
        pause_s = told_s + self._chance.uniform(0.0, 0.5) * longest_s
        self._tell(f"{error}; it is asked again in {pause_s:.1f} s")
        await asyncio.sleep(pause_s)
        self._tell("")

    def _check(self, why: str) -> None:
        if self._failed_max is not None and self.failed > self._failed_max:
            raise Failure(
                "TooManyErrors",
                f"spec.errorLimit: expected at most {self._failed_max} rows that fail, got {self.failed}; one of them: "
                f"{why[:MESSAGE_MAX]}",
            )
        if not self.succeeded and self.failed >= HOPELESS:
            message = f"the first {self.failed} rows that were tried all failed; one of them: {why[:MESSAGE_MAX]}"
            raise Failure("EveryRowFails", message)


def _cut(one: Slice, rows: int) -> list[Slice]:
    """The same rows as slices of so many; each is as suspect as the whole was, of one loss at most."""
    if one.rows <= rows:
        return [one]
    sizes = [min(rows, one.rows - start) for start in range(0, one.rows, rows)]
    pieces = zip(*(row_slices(tensor, sizes) for tensor in one.inputs), strict=True)
    starts = range(one.start, one.start + one.rows, rows)
    losses = min(one.losses, 1)
    return [Slice(start, size, inputs, losses) for start, size, inputs in zip(starts, sizes, pieces, strict=True)]


def _expect_rows(outputs: Sequence[Tensor], rows: int) -> None:
    for tensor in outputs:
        if tensor.shape[:1] != (rows,):
            message = f"output {tensor.name}: expected {rows} rows, the model gave shape {list(tensor.shape)}"
            raise Failure("BadOutput", message)

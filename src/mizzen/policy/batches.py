"""What is decided about batch predictions: which run of a schedule begins, how many errors are too many, how far it is.

Times are seconds since 1970, UTC: when a schedule falls due is said by `kinds.cron`, on the clock of its time zone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mizzen.kinds.batch import BatchProgress, BatchShard

Concurrency = Literal["Allow", "Forbid", "Replace"]


@dataclass(frozen=True, slots=True)
class Due:
    """What becomes of the last time that a schedule fell due."""

    act: Literal["start", "wait", "skip"]
    """Begin the run, let it wait for what is at work, or leave it out for good."""
    replace: bool = False
    """Runs that are at work are to be ended first."""
    why: str = ""
    """Where it does not begin: as a sentence."""


def due(
    scheduled_s: float,
    now_s: float,
    *,
    deadline_s: float | None,
    concurrency: Concurrency,
    active: int,
    suspended: bool,
) -> Due:
    """What becomes of a time of the schedule that has come; earlier ones that were missed are not asked about.

    As CronJob has it: a run that begins later than `deadline_s` after its time is left out; while it is suspended or
    may not begin beside another, it waits, and its deadline goes on.

    >>> due(100.0, 130.0, deadline_s=20.0, concurrency="Allow", active=0, suspended=False).act
    'skip'
    """
    late_s = now_s - scheduled_s
    if deadline_s is not None and late_s > deadline_s:
        return Due("skip", why=f"it was {late_s:.0f} s late, and startingDeadline is {deadline_s:g} s")
    if suspended:
        return Due("wait", why="it is suspended")
    if active and concurrency == "Forbid":
        return Due("wait", why="the run before is at work, and concurrencyPolicy is Forbid")
    return Due("start", replace=bool(active) and concurrency == "Replace")


def failed_max(limit: str | None, rows: int) -> int | None:
    """How many rows may fail: `100`, or `1%` of `rows`, rounded down; `None` where any number may.

    >>> failed_max("1%", 250), failed_max("7", 250), failed_max(None, 250)
    (2, 7, None)
    """
    if limit is None:
        return None
    return int(float(limit[:-1]) / 100 * rows) if limit.endswith("%") else int(limit)


def ended_to_keep(ended: Sequence[bool], *, succeeded: int, failed: int) -> list[int]:
    """Which ended runs stay in the history: so many of the newest of each outcome.

    `ended` says for each, newest first, whether it succeeded; the result holds places in it, in order.

    >>> ended_to_keep([True, False, True, True], succeeded=2, failed=1)
    [0, 1, 2]
    """
    left = {True: succeeded, False: failed}
    kept = []
    for place, outcome in enumerate(ended):
        if left[outcome] > 0:
            left[outcome] -= 1
            kept.append(place)
    return kept


@dataclass(frozen=True, slots=True)
class Progress:
    """How far runs have come. `left_s`: how long it will take at this rate; `None` while there is none."""

    done: int
    total: int
    failed: int
    per_s: float
    left_s: float | None
    waits: str

    @property
    def percent(self) -> int:
        """Rounded down: 100 is all."""
        return 100 * self.done // self.total if self.total else 0

    def as_status(self, done_at: str | None) -> BatchProgress:
        """As it is told."""
        return BatchProgress(
            percent=self.percent,
            rows_done=self.done,
            rows_total=self.total,
            failed_rows=self.failed,
            rows_per_s=self.per_s,
            done_at=done_at,
            waits=self.waits,
        )


def progress(shards: Sequence[BatchShard], rows: int) -> Progress:
    """The reports of all Pods together; `rows` are those of the inputs, which not every Pod may have told of yet."""
    done, failed = sum(shard.rows_done for shard in shards), sum(shard.failed_rows for shard in shards)
    total = max(rows, sum(shard.rows_total for shard in shards))
    per_s = round(sum(shard.rows_per_s for shard in shards if shard.rows_done < shard.rows_total), 1)
    # The slowest Pod is the last.
    left = [
        (shard.rows_total - shard.rows_done) / shard.rows_per_s if shard.rows_per_s > 0 else None
        for shard in shards
        if shard.rows_done < shard.rows_total
    ]
    known = [each for each in left if each is not None]
    left_s = max(known, default=0.0) if len(known) == len(left) and shards else None
    waits = next((shard.waits for shard in shards if shard.waits), "")
    return Progress(done, total, failed, per_s, left_s, waits)

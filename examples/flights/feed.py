"""The departure boards of November as they were: the views are brought on as time goes on, in a process beside the one
that asks.

While the flights of ten minutes are asked about, what becomes known at their end is worked out; then it is online, all
at once, and the next are asked about.
"""

import asyncio
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Self

import mizzen

SOURCES = {
    "city-board": "board",
    "origin-board": "board",
    "carrier-board": "board",
    "aircraft": "legs",
    "carrier-record": "legs",
    "route-record": "legs",
    "flight-record": "legs",
    "weather": "weather",
}
"""The views, and the datasets of their events."""
US_PER_S = 1_000_000


class Feed:
    """Moves the views in time. Times are seconds since 1970."""

    def __init__(self, begins_s: int) -> None:
        context = get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_work, args=(there, begins_s), daemon=True)
        self._process.start()
        there.close()

    @classmethod
    async def open(cls, begins_s: int) -> Self:
        """The views are as of that moment."""
        feed = cls(begins_s)
        await feed._answer()
        return feed

    async def bring(self, to_s: int, then_s: int) -> int:
        """What became known until `to_s` is online; `then_s` is what will be wanted next. How many events those are."""
        self._here.send((to_s, then_s))
        return await self._answer()

    async def _answer(self) -> int:
        """Raises `RuntimeError` where the feed cannot go on."""
        try:
            found = await asyncio.get_running_loop().run_in_executor(None, self._here.recv)
        except EOFError:
            raise RuntimeError("the feed has ended; why is above") from None
        return int(found)

    def close(self) -> None:
        """Ends the process."""
        self._here.close()
        self._process.join()


def _work(wishes: Connection, begins_s: int) -> None:
    with mizzen.Client() as client:
        tables = {name: client.data.rows(name).arrow() for name in set(SOURCES.values())}
        with client.replays({view: tables[name] for view, name in SOURCES.items()}) as views:
            wishes.send(views.begin(begins_s * US_PER_S))
            ready_s, prepared = begins_s, 0
            while True:
                try:
                    to_s, then_s = wishes.recv()
                except EOFError:
                    return
                if to_s > ready_s:
                    prepared += views.prepare(to_s * US_PER_S)
                views.commit()
                wishes.send(prepared)
                ready_s, prepared = then_s, views.prepare(then_s * US_PER_S)

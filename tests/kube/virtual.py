"""Runs a coroutine to its end on virtual time: for hypothesis, where each example needs an event loop of its own."""

from collections.abc import Coroutine
from typing import TypeVar

import looptime

T = TypeVar("T")


def run(main: Coroutine[None, None, T]) -> T:
    """The result of the coroutine, on a loop of its own whose time starts at 0 and passes only by waiting."""
    loop = looptime.new_event_loop(start=0)
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

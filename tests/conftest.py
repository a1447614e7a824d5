"""What all tests share."""

import asyncio


def pytest_configure() -> None:
    """Says that the main thread has no event loop of its own.

    Where that was never said, Python 3.11 makes one whenever somebody looks (looptime does, for every plain test), and
    nobody closes it.
    """
    asyncio.set_event_loop(None)

"""The Kubernetes API as a Pod of ours uses it: from plain blocking code, with patience.

The API's client is asynchronous and a user's function is not, so the client lives on an event loop in a thread of its
own. Calls are repeated while the API server is away: a control plane that restarts must cost no training run.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Self, TypeVar

from mizzen.kube.client import Client
from mizzen.kube.errors import ServerError, TooManyRequests, Unavailable

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0


class PodApi:
    """One client on one thread. Close it, or use it as a context manager."""

    def __init__(self, client_of: Callable[[], Client] = Client.from_environment) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mizzen-api", daemon=True)
        self._thread.start()
        self._client = self._run(_made(client_of))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections and ends the thread."""
        self._run(self._client.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, act: Callable[[Client], Awaitable[T]], *, patience_s: float) -> T:
        """What `act` returns, which may be tried several times.

        Raises what the API answered, or `ConnectionError` where it was away for longer than `patience_s`.
        """
        return self._run(persistent(lambda: act(self._client), patience_s=patience_s))

    def soon(self, act: Callable[[Client], None]) -> None:
        """Runs `act` on the client's event loop, soon; returns at once."""
        self._loop.call_soon_threadsafe(act, self._client)

    def _run(self, work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result()


async def persistent(act: Callable[[], Awaitable[T]], *, patience_s: float) -> T:
    """Awaits `act()` until the API server answers it; pauses grow from 0.2 s to 5 s.

    Raises `ConnectionError` where it has not answered after `patience_s`.
    """
    clock = asyncio.get_running_loop().time
    deadline, pause_s = clock() + patience_s, _FIRST_PAUSE_S
    while True:
        try:
            return await act()
        except (Unavailable, ServerError, TooManyRequests) as error:
            if clock() + pause_s > deadline:
                raise ConnectionError(f"the API server did not answer for {patience_s:.0f} s: {error}") from error
            _LOG.warning("the API server does not answer; trying again: %s", error)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def _made(client_of: Callable[[], Client]) -> Client:
    return client_of()

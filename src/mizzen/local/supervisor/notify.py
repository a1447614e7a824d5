"""Hears a process say that it is ready (systemd's protocol, see `mizzen.kube.process`).

What is said is taken off the socket at once, whether or not anybody waits for it: a socket holds few datagrams, and
whoever sends to a full one is refused or waits.
"""

import asyncio
import contextlib
import socket
import tempfile
from pathlib import Path


class ReadySocket:
    """A Unix datagram socket in a short folder of its own, since socket paths may have no more than about 100 bytes.

    It belongs to the event loop that runs when it is made.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mizzen-", ignore_cleanup_errors=True)
        self.path = Path(self._folder.name) / "ready"
        self._said = asyncio.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(self.path))
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._take)

    async def heard(self) -> None:
        """Returns when `READY=1` was said since this last returned."""
        await self._said.wait()
        self._said.clear()

    def _take(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                if b"READY=1" in self._socket.recv(4096).split(b"\n"):
                    self._said.set()

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._folder.cleanup()

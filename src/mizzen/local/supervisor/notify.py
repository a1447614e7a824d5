"""Hears a process say that it is ready (systemd's protocol, see `mizzen.kube.process`)."""

import asyncio
import socket
import tempfile
from pathlib import Path
from typing import Self


class ReadySocket:
    """A Unix datagram socket in a short folder of its own, since socket paths may have no more than about 100 bytes."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mizzen-", ignore_cleanup_errors=True)
        self.path = Path(self._folder.name) / "ready"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(self.path))

    async def heard(self) -> None:
        """Returns when the process said `READY=1`."""
        loop = asyncio.get_running_loop()
        while b"READY=1" not in (await loop.sock_recv(self._socket, 4096)).split(b"\n"):
            pass

    def close(self) -> None:
        self._socket.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""Waits closely for a control plane that is just starting beside us.

Informers wait out errors with growing pauses, which is right for a server that is away and slow for one that will be
there in a moment: `mizzen up` starts the gateway and the control plane together. So a kubeconfig that is not written
yet, and then a server that does not accept yet, are looked for every few milliseconds, for there is no event that tells
of another process's file or port; after `PATIENCE_S` informers take over.
"""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from mizzen.kube.client import Client

PAUSE_S = 0.02
PATIENCE_S = 15.0


async def client_of(kubeconfig: str | None) -> Client:
    """The client of that kubeconfig once it is there and its server accepts. Raises `ConfigurationError`."""
    end_s = asyncio.get_running_loop().time() + PATIENCE_S
    while kubeconfig is not None and not Path(kubeconfig).exists() and _now_s() < end_s:  # noqa: ASYNC110 - see above
        await asyncio.sleep(PAUSE_S)
    client = Client.from_environment(kubeconfig)
    while not await _accepts(client.connection.server) and _now_s() < end_s:  # noqa: ASYNC110 - see above
        await asyncio.sleep(PAUSE_S)
    return client


def _now_s() -> float:
    return asyncio.get_running_loop().time()


async def _accepts(server: str) -> bool:
    parts = urlsplit(server)
    try:
        _, writer = await asyncio.open_connection(parts.hostname, parts.port or 443)
    except OSError:
        return False
    writer.close()
    return True

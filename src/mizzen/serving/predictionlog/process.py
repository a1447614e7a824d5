"""The writer's process, once there is something to write."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lightkube.resources.core_v1 import ConfigMap

from mizzen.data.lake.objects import Store
from mizzen.kinds.names import SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE
from mizzen.kube.client import Client
from mizzen.kube.errors import ApiError, ConfigurationError
from mizzen.kube.heap import give_back_freed_memory, share_one_heap
from mizzen.kube.process import log_to_standard_error, stop_on_signals
from mizzen.serving.predictionlog.arguments import Arguments, arguments
from mizzen.serving.predictionlog.journal import Limits
from mizzen.serving.predictionlog.reporting import Reporter
from mizzen.serving.predictionlog.writer import FolderTaken, Writer

log = logging.getLogger("mizzen.predictionlog")
ASK_AGAIN_S = 2.0
NICENESS = 5
"""Requests come first: on a machine without a core to spare the log waits, in its rings and on the disk."""


async def run(given: Arguments) -> None:
    """Until SIGTERM or SIGINT."""
    stop = stop_on_signals()
    async with _client(given) as client:
        store_url = given.store or await _store_url(client, stop)
        if store_url is None:
            return
        limits = Limits(
            segment_bytes=given.segment_bytes, seal_after_s=given.seal_after_s, spool_bytes=given.spool_bytes
        )
        report = Reporter(client, store_url) if client is not None else None
        tidying = asyncio.create_task(give_back_freed_memory())
        await Writer(given.folder, given.spool, Store.open(store_url), limits, report).run(stop)
        tidying.cancel()


@asynccontextmanager
async def _client(given: Arguments) -> AsyncIterator[Client | None]:
    """The API's client; `None` where a store is given and no API."""
    if given.store is not None and given.kubeconfig is None:
        yield None
        return
    async with Client.from_environment(given.kubeconfig) as client:
        yield client


async def _store_url(client: Client | None, stop: asyncio.Event) -> str | None:
    """What the platform's settings say, as soon as they do; `None` where we are told to stop first."""
    assert client is not None, "without a store there is an API"
    while not stop.is_set():
        try:
            settings = await client.get(ConfigMap, SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE)
        except (ApiError, OSError) as error:
            log.warning("where the store is, is not known yet: %s", error)
        else:
            if url := (settings.data or {}).get("storeUrl"):
                return str(url)
        await asyncio.sleep(ASK_AGAIN_S)
    return None


def main() -> None:
    """The process's whole life."""
    share_one_heap()
    log_to_standard_error()
    os.nice(NICENESS)
    try:
        asyncio.new_event_loop().run_until_complete(run(arguments()))
    except (FolderTaken, ConfigurationError) as error:
        print(error, file=sys.stderr)
        os._exit(2)
    # Threads that wait for a store that is away are not waited for: what they have is in the spool.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()

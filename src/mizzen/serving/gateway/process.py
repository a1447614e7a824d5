"""One gateway process: HTTP and gRPC servers, gateway, directory and metrics, put together and ended in good order."""

import asyncio
import gc
import importlib
import logging
import os
import signal
import sys
import time
from pathlib import Path

import msgspec
import uvloop

from mizzen.kube.errors import ConfigurationError
from mizzen.kube.process import log_to_standard_error, notify_ready
from mizzen.serving.gateway.beginning import client_of
from mizzen.serving.gateway.cache.machine import MachineCache
from mizzen.serving.gateway.cache.responses import Remote, Tiers
from mizzen.serving.gateway.features.source import FeatureSource
from mizzen.serving.gateway.file import FileDirectory
from mizzen.serving.gateway.gateway import Gateway
from mizzen.serving.gateway.grpc.calls import Calls
from mizzen.serving.gateway.grpc.transport import Transport, transport
from mizzen.serving.gateway.http.granian import GranianServer
from mizzen.serving.gateway.http.handler import Handler
from mizzen.serving.gateway.http.llhttp import LlhttpServer
from mizzen.serving.gateway.kubernetes import KubernetesDirectory
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.gateway.metrics import MetricsFiles
from mizzen.serving.gateway.observer import observer_of
from mizzen.serving.gateway.plan import EXIT_CONFIGURATION, Plan
from mizzen.serving.gateway.reporting import Reporter

log = logging.getLogger("mizzen.gateway")
PATIENCE_S = 5.0
"""So long connections wait at the socket until it is known what is served; then who comes is told that it is not."""
STOP_TIMEOUT_S = 32.0
"""Requests that were taken are answered within their time, 30 s unless an endpoint says otherwise. The parent's is a
little longer."""


class _Servers:
    """HTTP and gRPC as one."""

    def __init__(self, plan: Plan, handler: Handler) -> None:
        self._http = (GranianServer if plan.http == "granian" else LlhttpServer)(handler, plan.limits)
        self._grpc: Transport | None = None
        if plan.grpc_address is not None:
            self._grpc = transport(plan.grpc, Calls(handler.gateway, plan.limits), plan.limits)

    async def start(self, plan: Plan) -> None:
        """Both take connections when this returns."""
        if self._grpc is not None and plan.grpc_address is not None:
            await self._grpc.start(plan.grpc_address)
        await self._http.start(plan.slot, plan.listen_fd)

    def stop(self) -> None:
        """Both take no more connections; what was taken is answered."""
        self._http.stop()
        if self._grpc is not None:
            self._grpc.stop()

    async def stopped(self) -> None:
        """Waits until the last answer is out."""
        await self._http.stopped()
        if self._grpc is not None:
            await self._grpc.stopped()


async def run(plan: Plan) -> None:
    """Serves until SIGTERM, SIGINT or the parent's end; then answers what was taken and ends."""
    loop = asyncio.get_running_loop()
    log_dir = Path(plan.log_dir) if plan.log_dir is not None else None
    observer = observer_of(plan, time.monotonic)
    machine = MachineCache(Path(plan.metrics_dir) / "answers", plan.slot, time.monotonic)
    tiers = Tiers(time.monotonic, machine=machine, remote=_remote(os.environ.get("MIZZEN_CACHE_REDIS")))
    features = FeatureSource(plan.online_url, time.monotonic, log_folder=log_dir)
    gateway = Gateway(time.monotonic, tiers=tiers, log_folder=log_dir, observer=observer, features=features)
    metrics = MetricsFiles(Path(plan.metrics_dir), plan.slot, gateway, for_all=plan.metrics_for_all)
    handler = Handler(gateway, metrics.page)
    gateway.totals = lambda key: metrics.total().measures.get(key, Measures())
    server = _Servers(plan, handler)
    tasks = [loop.create_task(metrics.run())]
    if plan.report_to is not None:
        tasks.append(loop.create_task(Reporter(gateway, plan.report_to, time.monotonic).run()))
    tasks.append(loop.create_task(_follow(plan, gateway)))
    if observer is not None:
        tasks.append(loop.create_task(observer.run()))
    announcing = loop.create_task(_announce(gateway))
    await asyncio.wait([announcing, *tasks], timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    await server.start(plan)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, loop, server)
    loop.add_reader(plan.parent_fd, _parent_gone, loop, plan.parent_fd, server)
    ending = loop.create_task(server.stopped())
    await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
    if not ending.done():  # a directory never ends by itself: what it raised is a bug, and ends the process
        _stop(loop, server)
        await ending
    metrics.write()
    gateway.features.close()
    machine.close()
    announcing.cancel()
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


def _remote(url: str | None) -> Remote | None:
    """Raises `ConfigurationError` where Redis is asked for and cannot be used."""
    if url is None:
        return None
    try:
        remote: Remote = importlib.import_module("mizzen.serving.gateway.cache.remote").RemoteCache(url)
    except ImportError as error:
        raise ConfigurationError(
            "MIZZEN_CACHE_REDIS: expected the package redis: pip install 'mizzen[redis]'"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"MIZZEN_CACHE_REDIS: {error}") from error
    return remote


async def _follow(plan: Plan, gateway: Gateway) -> None:
    if plan.directory_file is not None:
        await FileDirectory(Path(plan.directory_file)).run(gateway)
    else:
        async with await client_of(plan.kubeconfig) as client:
            await KubernetesDirectory(client).run(gateway)


async def _announce(gateway: Gateway) -> None:
    """Says that this process does its work, once it knows what is served."""
    await gateway.synced_once.wait()
    notify_ready()


def _stop(loop: asyncio.AbstractEventLoop, server: _Servers) -> None:
    """Ends in good order, within `STOP_TIMEOUT_S` whatever a client does."""
    server.stop()
    loop.call_later(STOP_TIMEOUT_S, os._exit, 1)


def _parent_gone(loop: asyncio.AbstractEventLoop, parent_fd: int, server: _Servers) -> None:
    loop.remove_reader(parent_fd)
    log.warning("process %s ends since its parent did", os.getpid())
    _stop(loop, server)


def main() -> int:
    """The process's whole life: its plan is its one argument."""
    log_to_standard_error()
    # What was imported is never collected; requests leave no cycles (a test holds that), so full collections are rare.
    gc.freeze()
    gc.set_threshold(10_000, 50, 100)
    try:
        uvloop.run(run(msgspec.json.decode(sys.argv[1], type=Plan)))
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIGURATION
    return 0


if __name__ == "__main__":
    sys.exit(main())

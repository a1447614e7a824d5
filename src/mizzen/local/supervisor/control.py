"""The control process of one machine: API server, the cluster's controllers, ours, and the node, in one event loop.

They share the loop and nothing else: each speaks to the API server over the network, as it would on a cluster. With
`--kubeconfig` the API server and the cluster's controllers are somebody else's, and only ours and the node are here.
"""

import argparse
import asyncio
import gc
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from mizzen.controllers.install import install
from mizzen.controllers.operator import runtime_of
from mizzen.controllers.settings import PlatformSettings
from mizzen.kube.client import Client
from mizzen.kube.errors import KubeError
from mizzen.kube.heap import give_back_freed_memory, share_one_heap
from mizzen.kube.process import log_to_standard_error, notify_ready, stop_on_signals
from mizzen.kube.runtime import Runtime
from mizzen.local.apiserver.server import ApiServer
from mizzen.local.apiserver.store import Limits
from mizzen.local.cluster.composition import runtime_of as cluster_runtime_of
from mizzen.local.node.host import NodeOptions
from mizzen.local.node.node import Node
from mizzen.local.node.orphans import NodeRunningError
from mizzen.local.supervisor.home import Home

HISTORY = Limits(superseded_bytes=8 << 20)
"""The watches of one machine are never far behind; one that is lists again."""
PODS_MAX = 1000
"""Processes are lighter than containers: what Pods ask for bounds them before their number does."""
PREFORKED = ("mizzen.serving.worker",)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mizzen.local.supervisor.control")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7070)
    parser.add_argument("--gateway-url", required=True)
    parser.add_argument("--kubeconfig", type=Path, default=None)
    return parser.parse_args()


async def control(home: Home, host: str, port: int, gateway_url: str, kubeconfig: Path | None) -> None:
    """Runs until SIGTERM; says `READY=1` when Pods can be asked for."""
    stop = stop_on_signals()
    async with AsyncExitStack() as stack:
        if kubeconfig is None:
            server = ApiServer(home.root, host=host, port=port, limits=HISTORY)
            await server.start()
            stack.push_async_callback(server.stop)
        client = await stack.enter_async_context(Client.from_kubeconfig(kubeconfig or home.kubeconfig))
        await install(client, PlatformSettings(home.store_url, gateway_url, online_url=home.online_url))
        runtimes = [runtime_of(client, elect=kubeconfig is not None, listen=f"unix:{home.scaling_socket}")]
        if kubeconfig is None:
            runtimes.append(cluster_runtime_of(client))
        options = NodeOptions(socket.gethostname().lower(), preforked=PREFORKED, pods_max=PODS_MAX)
        node = Node(client, home.root, options)
        await node.start()
        stack.push_async_callback(node.stop)
        await _run(runtimes, node, stop)


async def _run(runtimes: list[Runtime], node: Node, stop: asyncio.Event) -> None:
    """Runs all until told to stop, or until one of them fails, which ends the process."""
    running = [asyncio.create_task(runtime.run()) for runtime in runtimes]
    node_running = asyncio.create_task(node.wait())
    started = asyncio.create_task(_all_started(runtimes))
    stopped = asyncio.create_task(_set(stop))
    tidying = asyncio.create_task(give_back_freed_memory())
    try:
        await asyncio.wait([started, stopped, node_running, *running], return_when=asyncio.FIRST_COMPLETED)
        if started.done():
            notify_ready()
            # A full collection of what is there by now stops the machine for a tenth of a second, and finds nothing.
            gc.freeze()
        await asyncio.wait([stopped, node_running, *running], return_when=asyncio.FIRST_COMPLETED)
        if node_running.done():
            node_running.result()
    finally:
        node_running.cancel()
        tidying.cancel()
        for runtime in runtimes:
            runtime.stop()
        started.cancel()
        stopped.cancel()
        await asyncio.gather(*running)


async def _all_started(runtimes: list[Runtime]) -> None:
    for runtime in runtimes:
        await runtime.started()


async def _set(event: asyncio.Event) -> None:
    await event.wait()


def main() -> int:
    """The exit code: 1 with a line on standard error where it could not start."""
    given = _arguments()
    share_one_heap()
    log_to_standard_error()
    home = Home.from_environment()
    try:
        uvloop.run(control(home, given.host, given.port, given.gateway_url, given.kubeconfig))
    except (KubeError, NodeRunningError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m mizzen.local.node`: a node of its own process, to the API server of any kubeconfig."""

import argparse
import asyncio
import contextlib
import logging
import sys
from pathlib import Path

import uvloop

from mizzen.kube.client import Client
from mizzen.kube.errors import KubeError
from mizzen.kube.process import notify_ready, stop_on_signals
from mizzen.local.node.host import NodeOptions, host_name
from mizzen.local.node.node import Node
from mizzen.local.node.orphans import NodeRunningError


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mizzen.local.node", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, help="the API server; default: as kubectl finds it")
    parser.add_argument("--home", type=Path, default=Path(".mizzen"), help="where Pods and logs are kept")
    parser.add_argument("--node-name", default=host_name(), help="default: the machine's name")
    parser.add_argument("--address", default="127.0.0.1", help="where this machine is reached; default: loopback")
    parser.add_argument("--port", type=int, default=0, help="of the kubelet server; default: any that is free")
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="a label of the Node")
    parser.add_argument("--taint", action="append", default=[], metavar="KEY=VALUE:EFFECT", help="a taint of the Node")
    parser.add_argument(
        "--prefork", action="append", default=[], metavar="MODULE",
        help="fork containers that run `python -m MODULE` from a process that has imported it (mizzen.serving.worker)",
    )  # fmt: skip
    parser.add_argument("--drain", action="store_true", help="end all containers when the node ends")
    parser.add_argument("--deregister", action="store_true", help="take the Node away when the node ends")
    parser.add_argument("--verbose", action="store_true", help="say more")
    return parser.parse_args(arguments)


async def _run(options: argparse.Namespace) -> None:
    named = NodeOptions(
        name=options.node_name,
        address=options.address,
        port=options.port,
        labels=tuple((key, value) for key, _, value in (label.partition("=") for label in options.label)),
        taints=tuple(options.taint),
        preforked=tuple(options.prefork),
    )
    stopping = stop_on_signals()
    async with Client.from_kubeconfig(options.kubeconfig) as client:
        node = Node(client, options.home, named)
        await node.start()
        print(f"node {named.name}: registered at {client.connection.server}, kubelet port {node.port}", flush=True)
        notify_ready()
        failing = asyncio.create_task(node.wait())
        asked = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({failing, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            failed = failing.done()
            failing.cancel()
            await node.stop(drain=options.drain, deregister=options.deregister)
        if failed:
            failing.result()


def main(arguments: list[str] | None = None) -> int:
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    with contextlib.suppress(KeyboardInterrupt):
        try:
            uvloop.run(_run(options))
        except (KubeError, NodeRunningError, OSError) as error:
            print(f"node: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

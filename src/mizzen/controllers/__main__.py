"""The operator's entry point: `python -m mizzen.controllers --kubeconfig FILE`."""

import argparse
import asyncio
import sys
from pathlib import Path

from mizzen.controllers.install import install
from mizzen.controllers.operator import runtime_of
from mizzen.controllers.settings import PlatformSettings
from mizzen.kube.client import Client
from mizzen.kube.errors import KubeError
from mizzen.kube.process import log_to_standard_error, notify_ready, stop_on_signals


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mizzen.controllers")
    parser.add_argument("--kubeconfig", type=Path, default=None)
    parser.add_argument("--store-url", default=None, help="with --gateway-url: written to the platform's settings")
    parser.add_argument("--gateway-url", default=None)
    parser.add_argument("--listen", default=None, help="where gateways report their load: unix:/path, or host:port")
    parser.add_argument("--online-url", default="", help="redis://… or lmdb:///…: where features are kept for reads")
    return parser.parse_args()


async def _main(given: argparse.Namespace) -> None:
    stop = stop_on_signals()
    settings = None
    if given.store_url and given.gateway_url:
        settings = PlatformSettings(given.store_url, given.gateway_url, online_url=given.online_url)
    async with Client.from_environment(given.kubeconfig) as client:
        await install(client, settings)
        runtime = runtime_of(client, listen=given.listen)
        running = asyncio.create_task(runtime.run())
        stopped = asyncio.create_task(stop.wait())
        notify_ready()
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        runtime.stop()
        stopped.cancel()
        await running


if __name__ == "__main__":
    log_to_standard_error()
    try:
        asyncio.run(_main(_arguments()))
    except KubeError as error:
        sys.exit(f"error: {error}")

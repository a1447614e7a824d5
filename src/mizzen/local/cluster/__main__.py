"""`python -m mizzen.local.cluster --kubeconfig FILE`: the cluster's controllers alone, at any server without them."""

import argparse
import asyncio
import sys
from pathlib import Path

import uvloop

from mizzen.kube.client import Client
from mizzen.kube.errors import KubeError
from mizzen.kube.process import log_to_standard_error, notify_ready, stop_on_signals
from mizzen.local.cluster.composition import runtime_of


async def _run(kubeconfig: Path | None) -> None:
    stop = stop_on_signals()
    async with Client.from_environment(kubeconfig) as client:
        runtime = runtime_of(client)
        running = asyncio.create_task(runtime.run())
        started = asyncio.create_task(runtime.started())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({running, started, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if started.done():
            notify_ready()
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        runtime.stop()
        for task in (started, stopped):
            task.cancel()
        await running


def main() -> int:
    """The exit code: 1 with a line on standard error where it could not start."""
    parser = argparse.ArgumentParser(prog="python -m mizzen.local.cluster")
    parser.add_argument("--kubeconfig", type=Path, default=None)
    given = parser.parse_args()
    log_to_standard_error()
    try:
        uvloop.run(_run(given.kubeconfig))
    except KubeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The supervisor as a process of its own: `python -m mizzen.local.supervisor`, which `mizzen up -d` starts.

It prints one line of JSON, the addresses when everything is up or the error, closes its standard output, and works on.
"""

import argparse
import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from mizzen.kube.process import stop_on_signals
from mizzen.local.supervisor.home import Home, HomeError
from mizzen.local.supervisor.processes import StartError
from mizzen.local.supervisor.supervisor import Addresses, Settings, Supervisor


def _arguments() -> Settings:
    parser = argparse.ArgumentParser(prog="python -m mizzen.local.supervisor")
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7070)
    parser.add_argument("--inference-port", type=int, default=7080)
    parser.add_argument("--grpc-port", type=int)
    parser.add_argument("--gateways", type=int, default=1)
    parser.add_argument("--kubeconfig", type=Path, default=None)
    given = parser.parse_args()
    return Settings(
        Home.from_environment(given.home),
        given.host,
        given.port,
        given.inference_port,
        given.gateways,
        given.grpc_port,
        given.kubeconfig,
    )


async def _main() -> int:
    async def ready(addresses: Addresses) -> None:
        _say(asdict(addresses))

    try:
        await Supervisor(_arguments()).run(stop_on_signals(), ready)
    except (HomeError, StartError) as error:
        _say({"error": str(error)})
        return 1
    return 0


def _say(document: dict[str, str | None]) -> None:
    """One line, and no more: whoever started us reads it and goes; nothing may fail later for want of a reader."""
    print(json.dumps(document), flush=True)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, sys.stdout.fileno())
    os.close(silent)


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))

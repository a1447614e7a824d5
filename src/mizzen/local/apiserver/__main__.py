"""`python -m mizzen.local.apiserver --home DIR --port 7070`: the API server alone."""

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

import uvloop

from mizzen.local.apiserver.server import ApiServer


async def _serve(home: Path, host: str, port: int) -> None:
    server = ApiServer(home, host, port)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.start()
    print(f"{server.url}  KUBECONFIG={server.kubeconfig}", flush=True)
    await stop.wait()
    await server.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mizzen.local.apiserver")
    parser.add_argument("--home", type=Path, required=True, help="the folder that keeps everything")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7070, help="0: any free one")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        uvloop.run(_serve(given.home, given.host, given.port))
    except OSError as error:
        print(f"error: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

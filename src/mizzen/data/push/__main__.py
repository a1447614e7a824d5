"""`python -m mizzen.data.push`: the push server, against any control plane. It starts alone."""

import argparse
import asyncio
import os
import socket
import sys
from pathlib import Path

from lightkube.resources.core_v1 import ConfigMap

from mizzen.data.lake.objects import Store
from mizzen.data.push.directory import KubernetesDirectory
from mizzen.data.push.server import PushServer, served
from mizzen.kinds import Dataset
from mizzen.kinds.data import LoadReport
from mizzen.kinds.names import SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE
from mizzen.kube.client import Client
from mizzen.kube.errors import KubeError
from mizzen.kube.process import log_to_standard_error, notify_ready, stop_on_signals

PORT_DEFAULT = 7082


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("mizzen.data.push", description="Takes rows for datasets over HTTP.")
    parser.add_argument("--kubeconfig", type=Path, default=None)
    parser.add_argument("--host", default="127.0.0.1", help="plain HTTP: elsewhere than here, behind a TLS proxy; "
                        "pod: as the Pod it is in is reached")  # fmt: skip
    parser.add_argument("--port", type=int, default=int(os.environ.get("MIZZEN_PORT_PUSH", PORT_DEFAULT)),
                        help="0: a free one, which is printed")  # fmt: skip
    parser.add_argument("--store-url", default=None, help="default: the platform's")
    return parser.parse_args()


async def _store_url(client: Client) -> str:
    settings = await client.get(ConfigMap, SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE)
    url: str | None = (settings.data or {}).get("storeUrl")
    if not url:
        sys.exit(f"ConfigMap {SYSTEM_NAMESPACE}/{SETTINGS_CONFIG_MAP}: expected data.storeUrl; `mizzen up` sets it")
    return url


async def _main(given: argparse.Namespace) -> None:
    stop = stop_on_signals()
    async with Client.from_environment(given.kubeconfig) as client:
        store = Store.open(given.store_url or await _store_url(client))
        directory = KubernetesDirectory(client)

        async def report(dataset: Dataset, told: LoadReport) -> None:
            body = {"status": {"lastRun": told.model_dump(mode="json", by_alias=True)}}
            try:
                await client.patch(Dataset, dataset.name, body, namespace=dataset.namespace, subresource="status")
            except KubeError as error:
                raise ConnectionError(f"the status cannot be written: {error}") from error

        following = asyncio.create_task(directory.informers.run())
        await directory.synced()
        server = PushServer(store, directory, report)
        host = given.host
        if host == "pod":  # a process of this machine is reached here, a container from everywhere
            host = "127.0.0.1" if "MIZZEN_RUN_DIR" in os.environ else "0.0.0.0"
        try:
            listening = socket.create_server((host, given.port))
        except OSError as error:
            sys.exit(f"cannot listen on {host}:{given.port}: {error.strerror}")
        async with served(server, listening):
            host, port = listening.getsockname()[:2]
            print(f"listening on http://{host}:{port}", flush=True)
            notify_ready()
            await stop.wait()
        following.cancel()


if __name__ == "__main__":
    log_to_standard_error()
    try:
        asyncio.run(_main(_arguments()))
    except KubeError as error:
        sys.exit(f"error: {error}")

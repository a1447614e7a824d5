"""`python -m mizzen.data.forget --namespace NS KEY=VALUE …`: takes an entity out of everything of a namespace.

Run by whoever administers the platform, with their kubeconfig and the store's credentials: finds the views by these
keys and the endpoints whose requests are logged, forgets, tells the Datasets their new versions, and prints the
receipt. Ends with 1 where something is still to come, which the receipt names.
"""

import argparse
import asyncio
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from lightkube.resources.core_v1 import ConfigMap

from mizzen.data.features.errors import FeatureError
from mizzen.data.features.online.opening import open_store
from mizzen.data.forgetting import Held, Receipt, forget
from mizzen.data.lake.errors import LakeError
from mizzen.data.lake.objects import Store
from mizzen.data.lake.tables import Table
from mizzen.kinds import Dataset, FeatureView, InferenceEndpoint
from mizzen.kinds.names import SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE
from mizzen.kube.client import Client
from mizzen.kube.errors import KubeError


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mizzen.data.forget")
    parser.add_argument("--kubeconfig", type=Path, default=None)
    parser.add_argument("--namespace", default="default")
    parser.add_argument("key", nargs="+", help="the entity's keys: card=card-7")
    return parser.parse_args()


async def forget_everywhere(client: Client, namespace: str, key: dict[str, str]) -> Receipt:
    """Forgets, and tells the Datasets. Raises `KubeError`, `LakeError`, `FeatureError`."""
    settings = (await client.get(ConfigMap, SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE)).data or {}
    store = Store.open(settings["storeUrl"])
    views = [*await client.list(FeatureView, namespace)]
    endpoints = [each.name for each in await client.list(InferenceEndpoint, namespace)]
    held, when = Held(namespace, views, endpoints), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if url := settings.get("onlineUrl"):
        with closing(open_store(url)) as online:
            receipt = await asyncio.to_thread(forget, store, online, held, key, when)
    else:
        receipt = await asyncio.to_thread(forget, store, None, held, key, when)
    for place in receipt.places:
        kind, _, name = place.what.partition("/")
        if kind == "dataset" and place.versions:
            newest = Table(store, namespace, name).at()
            now = {"version": newest.version, "digest": newest.digest, "rows": newest.rows, "bytes": newest.bytes}
            await client.patch(Dataset, name, {"status": now}, namespace=namespace, subresource="status")
    return receipt


def _key(words: list[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    for name, equals, value in pairs:
        if not (name and equals and value):
            sys.exit(f"error: expected KEY=VALUE, found {name}{equals}{value}")
    return {name: value for name, _, value in pairs}


async def _main(given: argparse.Namespace) -> int:
    async with Client.from_environment(given.kubeconfig) as client:
        receipt = await forget_everywhere(client, given.namespace, _key(given.key))
    print(msgspec.json.format(msgspec.json.encode(receipt), indent=2).decode())
    return 0 if receipt.complete else 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(_main(_arguments())))
    except (KubeError, LakeError, FeatureError) as error:
        sys.exit(f"error: {error}")

"""The right to be forgotten, over a control plane: which views and endpoints there are, and the Datasets told after.

For whoever administers the platform: it takes their kubeconfig and the store's credentials. What is forgotten where,
and what the receipt says, is in `mizzen.data.forgetting`.
"""

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack, closing
from datetime import UTC, datetime

from lightkube.resources.core_v1 import ConfigMap

from mizzen.data.features.online.opening import open_store
from mizzen.data.forgetting import Held, Receipt, forget
from mizzen.data.lake.objects import Store
from mizzen.data.lake.tables import Table
from mizzen.kinds import Dataset, FeatureView, InferenceEndpoint
from mizzen.kinds.names import SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE
from mizzen.kube.client import Client
from mizzen.sdk.applying import ApplyError


async def forget_everywhere(client: Client, namespace: str, key: Mapping[str, str]) -> Receipt:
    """Takes an entity, given as the values of its keys by name, out of everything of a namespace; safe to repeat.

    Raises `ApplyError` where no view of the namespace has these keys, `LakeError`, `FeatureError`.
    """
    views = [*await client.list(FeatureView, namespace)]
    held = Held(namespace, views, [each.name for each in await client.list(InferenceEndpoint, namespace)])
    if not held.views_by(key):
        names = ", ".join(key)
        raise ApplyError(f"expected keys of a FeatureView of namespace {namespace}, found none with {names}")
    settings = (await client.get(ConfigMap, SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE)).data or {}
    store, when = Store.open(settings["storeUrl"]), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    with ExitStack() as stack:
        url = settings.get("onlineUrl")
        online = stack.enter_context(closing(open_store(url))) if url else None
        receipt = await asyncio.to_thread(forget, store, online, held, key, when)
    for place in receipt.places:
        kind, _, name = place.what.partition("/")
        if kind == "dataset" and place.versions:
            newest = Table(store, namespace, name).at()
            now = {"version": newest.version, "digest": newest.digest, "rows": newest.rows, "bytes": newest.bytes}
            await client.patch(Dataset, name, {"status": now}, namespace=namespace, subresource="status")
    return receipt

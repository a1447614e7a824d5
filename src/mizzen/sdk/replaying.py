"""FeatureViews as they were online at another time, in the online store of the control plane.

with client.replays({"customer-payments": payments, "terminal-verdicts": verdicts}) as views:
    views.begin(midnight_us)
    for minute in range(24 * 60):
        ...  # ask an endpoint whose requests say when they are asked
        views.bring(midnight_us + (minute + 1) * 60_000_000)
"""

from collections.abc import Mapping, Sequence
from typing import Self

import pyarrow as pa
from lightkube.resources.core_v1 import ConfigMap

from mizzen.data.features.errors import StoreUnavailable
from mizzen.data.features.online.opening import open_store
from mizzen.data.features.online.replaying import Replay
from mizzen.data.features.online.store import OnlineStore
from mizzen.kinds.names import SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE
from mizzen.kube.client import Client


class Replays:
    """Views that move in time together. Times are microseconds since 1970."""

    def __init__(self, store: OnlineStore, views: Sequence[Replay]) -> None:
        self._store, self._views = store, views

    def begin(self, at_us: int) -> int:
        """Endpoints get the views as of that moment; how many events that are."""
        return sum(view.begin(at_us) for view in self._views)

    def bring(self, to_us: int) -> int:
        """What became known until then is online from now on; how many events that are."""
        return sum(view.bring(to_us) for view in self._views)

    def close(self) -> None:
        """Lets go of the store."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def replays(client: Client, namespace: str, rows: Mapping[str, pa.Table]) -> Replays:
    """Of views that are online. Raises `FeatureError` where one is not, or its rows do not fit it."""
    settings = await client.get(ConfigMap, SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE)
    url = (settings.data or {}).get("onlineUrl")
    if not url:
        raise StoreUnavailable(
            f"ConfigMap {SYSTEM_NAMESPACE}/{SETTINGS_CONFIG_MAP}: expected data.onlineUrl, found none; "
            "`mizzen up` sets it"
        )
    store = open_store(url, durable=False)  # what a crash takes from a replay, the next one makes anew
    return Replays(store, [Replay.of(store, namespace, name, table) for name, table in rows.items()])

"""What the platform is told about itself: the ConfigMap `mizzen` in namespace `mizzen-system`.

Whoever brings the platform up writes it; the controllers read it and hand its values to the Pods they start.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from mizzen.kinds.names import SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE
from mizzen.version import __version__

DEFAULT_IMAGE = f"mizzen/mizzen:{__version__}"


class SettingsError(ValueError):
    """The ConfigMap lacks what the controllers need; the message says what."""


@dataclass(frozen=True, slots=True)
class PlatformSettings:
    """`store_url`: artifacts and tables. `gateway_url`: where endpoints answer. `image`: of every Pod of ours."""

    store_url: str
    gateway_url: str
    image: str = DEFAULT_IMAGE
    lineage_url: str = ""
    """Where OpenLineage events go (`file:///…`, `http://…`); empty: nowhere."""
    online_url: str = ""
    """The online store of features (`lmdb:///…`, `redis://…`); empty: there is none, and no view is kept online."""

    @classmethod
    def from_config_map(cls, data: Mapping[str, str] | None) -> Self:
        """Raises `SettingsError` where a value is missing."""
        data = data or {}
        place = f"ConfigMap {SYSTEM_NAMESPACE}/{SETTINGS_CONFIG_MAP}"
        for key, example in (("storeUrl", "s3://bucket/prefix"), ("gatewayUrl", "http://gateway.example:7080")):
            if not data.get(key):
                raise SettingsError(
                    f"{place}: expected data.{key} (such as {example}), found none. `mizzen up` writes it."
                )
        store_url, gateway_url = data["storeUrl"].rstrip("/"), data["gatewayUrl"].rstrip("/")
        return cls(
            store_url,
            gateway_url,
            data.get("image") or DEFAULT_IMAGE,
            data.get("lineageUrl") or "",
            data.get("onlineUrl") or "",
        )

    def to_config_map(self) -> dict[str, Any]:
        """The ConfigMap, as a wire object."""
        optional = {
            key: value for key, value in (("lineageUrl", self.lineage_url), ("onlineUrl", self.online_url)) if value
        }
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": SETTINGS_CONFIG_MAP, "namespace": SYSTEM_NAMESPACE},
            "data": {"storeUrl": self.store_url, "gatewayUrl": self.gateway_url, "image": self.image, **optional},
        }

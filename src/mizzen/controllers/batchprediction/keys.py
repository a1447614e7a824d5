"""The API key with which a batch asks an endpoint: made once, kept in two Secrets of its namespace.

    batchprediction.NAME       type mizzen.dev/api-key: the key's hash and the endpoint, as gateways know keys
    batchprediction.NAME.key   the key itself, for the run's Pods alone

Its name is what metrics, shares and the prediction log know the batch by. Both go with the batch prediction.
"""

import base64
import hashlib
from collections.abc import Callable

from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Secret

from mizzen.controllers.jobs import MANAGED_BY, owner_reference
from mizzen.controllers.platform import FIELD_MANAGER, Platform
from mizzen.kinds import BatchPrediction
from mizzen.kinds.names import BATCH_KEY_PREFIX, LABEL_API_KEY, SECRET_TYPE_API_KEY
from mizzen.kinds.pods import SecretKey

PREFIX = "mzn_"
ENTRY = "key"


async def key_of(platform: Platform, batch: BatchPrediction, endpoint: str, token: Callable[[], str]) -> SecretKey:
    """Where the key is; it is made where there is none. Whoever is interrupted here and comes again finds the same."""
    name = f"{BATCH_KEY_PREFIX}{batch.name}"
    await platform.create_missing(_secret(batch, f"{name}.key", "Opaque", {ENTRY: PREFIX + token()}))
    kept = await platform.client.get(Secret, f"{name}.key", batch.namespace)
    key = base64.b64decode((kept.data or {})[ENTRY]).decode()
    known = _secret(
        batch, name, SECRET_TYPE_API_KEY, {"hash": hashlib.sha256(key.encode()).hexdigest(), "endpoints": endpoint}
    )
    assert known.metadata is not None, "just made"
    known.metadata.labels = {**MANAGED_BY, LABEL_API_KEY: "true"}
    await platform.client.apply(known, field_manager=FIELD_MANAGER, force=True)
    return SecretKey(name=f"{name}.key", key=ENTRY)


def _secret(batch: BatchPrediction, name: str, type_: str, values: dict[str, str]) -> Secret:
    metadata = ObjectMeta(
        name=name, namespace=batch.namespace, labels=dict(MANAGED_BY), ownerReferences=[owner_reference(batch)]
    )
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return Secret(metadata=metadata, type=type_, data=data)

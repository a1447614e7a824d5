"""Pods from templates, many at once but not all at once where the first ones fail."""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mizzen.kube.errors import ApiError
from mizzen.kube.resources import Json, Untyped
from mizzen.local.cluster.objects import Pod

_BATCH_MAX = 64


def pod_from(template: Mapping[str, Any], namespace: str, generate_name: str, owner: Json) -> Untyped:
    """A Pod of the template, to be created."""
    metadata = template.get("metadata") or {}
    kept = {key: copy.deepcopy(metadata[key]) for key in ("labels", "annotations", "finalizers") if metadata.get(key)}
    return Pod(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**kept, "namespace": namespace, "generateName": generate_name, "ownerReferences": [owner]},
            "spec": copy.deepcopy(dict(template.get("spec") or {})),
        }
    )


async def make_in_growing_batches(count: int, make: Callable[[int], Awaitable[None]]) -> ApiError | None:
    """Calls `make` for 0, 1, … `count`-1, in batches of 1, 2, 4, …, and stops after a batch in which one failed.

    A template that is refused costs one refused request and not a thousand. Returns the first failure.
    (Kubernetes: `slowStartBatch`.)
    """
    start = 0
    size = 1
    while start < count:
        batch = range(start, min(start + size, count))
        outcomes = await asyncio.gather(*(make(number) for number in batch), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, ApiError):
                return outcome
            if isinstance(outcome, BaseException):
                raise outcome
        start, size = batch.stop, min(size * 2, _BATCH_MAX)
    return None

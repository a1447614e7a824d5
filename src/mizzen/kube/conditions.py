"""Conditions of objects in their JSON form, and finalizers.

For the conditions of our own kinds, which are pydantic, see `mizzen.kinds.meta.with_condition`.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from mizzen.kube.client import Client
from mizzen.kube.errors import NotFound
from mizzen.kube.resources import Json, meta_of
from mizzen.kube.times import format_time

T = TypeVar("T")


def condition(conditions: Iterable[Mapping[str, Any]] | None, type_: str) -> Mapping[str, Any] | None:
    """The condition of that type, or `None` where it was never observed."""
    return next((one for one in conditions or () if one.get("type") == type_), None)


def is_true(conditions: Iterable[Mapping[str, Any]] | None, type_: str) -> bool:
    """Whether that condition was observed and holds."""
    found = condition(conditions, type_)
    return found is not None and found.get("status") == "True"


def with_condition(
    conditions: Iterable[Mapping[str, Any]] | None,
    type_: str,
    status: bool | None,
    reason: str,
    message: str = "",
    *,
    now: datetime,
    **more: Any,
) -> list[Json]:
    """The conditions with one set; `None` is `Unknown`. Its transition time stays while its status does.

    `more` holds further fields, such as `observedGeneration` or a Deployment's `lastUpdateTime`.
    """
    word = {True: "True", False: "False", None: "Unknown"}[status]
    kept = [dict(one) for one in conditions or ()]
    old = next((one for one in kept if one.get("type") == type_), None)
    same = old is not None and old.get("status") == word and "lastTransitionTime" in old
    since = old["lastTransitionTime"] if same and old is not None else format_time(now)
    new = {"type": type_, "status": word, "reason": reason, "message": message, "lastTransitionTime": since, **more}
    if old is None:
        return [*kept, new]
    return [new if one is old else one for one in kept]


async def add_finalizer(client: Client, obj: T, finalizer: str) -> T:
    """The object with the finalizer: deletion waits until it is removed. Raises `Conflict` where `obj` is stale."""
    meta = meta_of(obj)
    if finalizer in meta.finalizers:
        return obj
    return await _set_finalizers(client, obj, [*meta.finalizers, finalizer])


async def remove_finalizer(client: Client, obj: T, finalizer: str) -> T | None:
    """The object without the finalizer; `None` where it is gone. Raises `Conflict` where `obj` is stale."""
    meta = meta_of(obj)
    if finalizer not in meta.finalizers:
        return obj
    try:
        return await _set_finalizers(client, obj, [one for one in meta.finalizers if one != finalizer])
    except NotFound:
        return None


async def _set_finalizers(client: Client, obj: T, finalizers: list[str]) -> T:
    # A merge patch replaces the whole list, so it must not be based on an old one: the version makes that a conflict.
    meta = meta_of(obj)
    body = {"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": finalizers}}
    return await client.patch(type(obj), meta.name, body, namespace=meta.namespace)

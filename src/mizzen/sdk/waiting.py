"""Waiting for a condition of an object by watching it, never by asking again and again."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from mizzen.kube.client import Client
from mizzen.kube.errors import Expired, NotFound, Unavailable
from mizzen.kube.resources import ResourceInfo, untyped

RETRY_S = 0.2
"""Pause before watching again when the connection broke: the server may be starting."""


class WaitTimeoutError(TimeoutError):
    """The condition did not come true in time; the message tells how things stand."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The condition as it was last seen; `state` is `True`, `False`, `Unknown`, or empty before it was observed."""

    state: str
    reason: str
    message: str


def condition_of(wire: dict[str, Any], type_: str) -> Seen:
    """The condition of an object. One that speaks of an older generation counts as not observed."""
    generation = (wire.get("metadata") or {}).get("generation")
    for condition in (wire.get("status") or {}).get("conditions") or ():
        if condition.get("type", "").lower() == type_.lower():
            observed = condition.get("observedGeneration")
            if observed is not None and generation is not None and observed < generation:
                break
            return Seen(condition.get("status", ""), condition.get("reason", ""), condition.get("message", ""))
    return Seen("", "", "")


async def wait_for(
    client: Client,
    info: ResourceInfo,
    name: str,
    *,
    namespace: str,
    condition: str = "Ready",
    state: str = "True",
    timeout_s: float = 300.0,
    on_change: Callable[[Seen], Awaitable[None]] | None = None,
    give_up: Callable[[Seen], bool] = lambda seen: False,  # noqa: ARG005 - the default never gives up
) -> dict[str, Any]:
    """Returns the object once its condition has that state.

    Calls `on_change` whenever the condition looks different. Raises `WaitTimeoutError`, and also at once where
    `give_up` says that it will never come; `NotFound` where the object is deleted meanwhile.
    """
    last = Seen("", "", "")
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    wire = await _watched(client, info, name, namespace, condition, state, on_change, give_up, last)
                except (Expired, Unavailable):
                    wire = None
                if wire is not None:
                    return wire
                await asyncio.sleep(RETRY_S)
    except TimeoutError as error:
        last = condition_of(await client.get(untyped(info), name, namespace), condition)
        raise WaitTimeoutError(_unmet(info, name, condition, state, last, f"after {timeout_s:g} s")) from error


async def _watched(
    client: Client,
    info: ResourceInfo,
    name: str,
    namespace: str,
    condition: str,
    state: str,
    on_change: Callable[[Seen], Awaitable[None]] | None,
    give_up: Callable[[Seen], bool],
    last: Seen,
) -> dict[str, Any] | None:
    """One list and watch: the object when its condition is met, `None` when the server ended the watch."""
    cls = untyped(info)
    listed = await client.list(cls, namespace, fields={"metadata.name": name})
    if not listed.items:
        raise NotFound({"code": 404, "reason": "NotFound", "message": f'{info} "{name}" not found'})
    wire: dict[str, Any] = listed.items[0]
    watch = client.watch(cls, namespace, resource_version=listed.resource_version, fields={"metadata.name": name})
    async with aclosing(watch) as events:
        while True:
            seen = condition_of(wire, condition)
            if seen != last and on_change is not None:
                await on_change(seen)
            last = seen
            if seen.state == state:
                return wire
            if give_up(seen):
                raise WaitTimeoutError(_unmet(info, name, condition, state, seen, "and it will not come by waiting"))
            async for event in events:
                if event.type == "DELETED":
                    raise NotFound({"code": 404, "reason": "NotFound", "message": f'{info} "{name}" was deleted'})
                if event.type != "BOOKMARK":
                    wire = event.object
                    break
            else:
                return None


def _unmet(info: ResourceInfo, name: str, condition: str, state: str, seen: Seen, when: str) -> str:
    found = f"{seen.state} ({seen.reason}): {seen.message}" if seen.state else "not observed"
    return f"{info.kind} {name}: expected condition {condition}={state} {when}, found {found}"


async def wait_until_gone(
    client: Client, info: ResourceInfo, name: str, *, namespace: str, timeout_s: float = 60.0
) -> None:
    """Returns when the object is no longer there. Raises `WaitTimeoutError`."""
    cls = untyped(info)
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                listed = await client.list(cls, namespace, fields={"metadata.name": name})
                if not listed.items:
                    return
                watch = client.watch(
                    cls, namespace, resource_version=listed.resource_version, fields={"metadata.name": name}
                )
                async with aclosing(watch) as events:
                    async for event in events:
                        if event.type == "DELETED":
                            return
    except TimeoutError as error:
        raise WaitTimeoutError(
            f"{info.kind} {name}: expected it to be gone after {timeout_s:g} s; it is still there"
        ) from error

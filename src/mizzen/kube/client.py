"""Typed access to one API server: the verbs of Kubernetes, for any class that `resources` knows.

One `Client` is one HTTP connection pool and one identity; share it. It holds no objects: `informer` does. Calls raise
`errors.ApiError` and its kinds, with what the server said. Conflicts are never forced or retried here: only the caller
knows what to decide on the reloaded object.

    async with Client.from_environment() as client:
        pods = await client.list(Pod, namespace="default", labels={"app": "gateway"})
        async for event in client.watch(Pod, "default", resource_version=pods.resource_version):
            ...
"""

import os
import random
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar
from urllib.parse import quote

import httpx2
import msgspec

from mizzen.kube import connection as connections
from mizzen.kube.connection import Connection
from mizzen.kube.errors import Expired
from mizzen.kube.query import Propagation, Selector, delete_options, goes_later, selection, writing
from mizzen.kube.resources import ResourceInfo, decode, encode, info_of, meta_of
from mizzen.kube.transport import Transport, TransportStatistics
from mizzen.kube.watching import RawObject, WatchEvent, decoded, events_of, raw_object
from mizzen.kube.wire import Answer
from mizzen.version import __version__

T = TypeVar("T")
PatchType = Literal["merge", "json", "strategic"]

_PATCH_TYPES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
_PAGE = 500
_METADATA = "application/json;g=meta.k8s.io;v=v1;as=PartialObjectMetadata"
_OR_ALL = ",application/json"


@dataclass(frozen=True, slots=True)
class ListResult(Generic[T]):
    """What a list saw, and the moment it saw it at: a watch from `resource_version` misses nothing."""

    items: list[T]
    resource_version: str

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _ListPage(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


_list_page = msgspec.json.Decoder(_ListPage)


class Client:
    """Access to one API server as one user. Close it with `aclose`, or use it as a context manager."""

    def __init__(
        self,
        connection: Connection,
        *,
        user_agent: str = f"mizzen/{__version__}",
        transport: httpx2.AsyncBaseTransport | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.connection = connection
        self.namespace = connection.namespace
        """Used where a call names none."""
        self._transport = Transport(connection, user_agent=user_agent, transport=transport, rng=rng)

    @classmethod
    def from_kubeconfig(cls, path: str | Path | None = None, context: str | None = None) -> Self:
        """The server and user of a kubeconfig; without a path, as `from_environment`."""
        return cls(connections.from_kubeconfig(path, context)) if path else cls.from_environment(context=context)

    @classmethod
    def from_environment(
        cls,
        kubeconfig: str | Path | None = None,
        context: str | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Self:
        """The first of: `kubeconfig` (the flag --kubeconfig), `$KUBECONFIG`, the Pod's service account, the Mizzen
        home's, `~/.kube/config`. Raises `ConfigurationError` naming all that was tried.
        """
        return cls(connections.from_environment(kubeconfig, context, environ))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._transport.aclose()

    def statistics(self) -> TransportStatistics:
        return self._transport.statistics()

    def __repr__(self) -> str:
        return f"Client({self.connection.server}, namespace={self.namespace!r}, from {self.connection.source})"

    # -- reading

    async def get(self, cls: type[T], name: str, namespace: str | None = None) -> T:
        """The object of that name. Raises `NotFound`."""
        response = await self._send("GET", self._path(cls, namespace, name))
        return decode(cls, response.body)

    async def list(
        self,
        cls: type[T],
        namespace: str | None = None,
        *,
        labels: Selector | None = None,
        fields: Selector | None = None,
        resource_version: str | None = None,
    ) -> ListResult[T]:
        """All objects of a namespace, or of all namespaces, fetched in pages. Raises `DecodeError` for any that does
        not fit the class; `list_raw` does not look inside.
        """
        info = info_of(cls)
        raw = await self.list_raw(info, namespace, labels=labels, fields=fields, resource_version=resource_version)
        return ListResult([decode(cls, item.wire) for item in raw], raw.resource_version)

    async def list_raw(
        self,
        info: ResourceInfo,
        namespace: str | None = None,
        *,
        labels: Selector | None = None,
        fields: Selector | None = None,
        resource_version: str | None = None,
        metadata_only: bool = False,
    ) -> ListResult[RawObject]:
        """As `list`, the objects as JSON; with `metadata_only` just that of each, where the server can do so."""
        accept = f"{_METADATA}List{_OR_ALL}" if metadata_only else "application/json"
        chosen = selection(labels, fields)
        first = chosen | ({} if resource_version is None else {"resourceVersion": resource_version})
        params = first | {"limit": str(_PAGE)}
        items: list[RawObject] = []
        while True:
            try:
                response = await self._send("GET", info.path(namespace), params=params, accept=accept)
                page = _list_page.decode(response.body)
            except Expired:
                # The rest of a slow listing is gone: one unpaged list is consistent and cannot expire.
                if "continue" not in params:
                    raise
                items, params = [], first
                continue
            items += [raw_object(raw) for raw in page.items or ()]
            if not page.metadata.continue_:
                return ListResult(items, page.metadata.resource_version)
            params = chosen | {"limit": str(_PAGE), "continue": page.metadata.continue_}

    async def watch(
        self,
        cls: type[T],
        namespace: str | None = None,
        *,
        resource_version: str | None = None,
        labels: Selector | None = None,
        fields: Selector | None = None,
        timeout_s: float | None = None,
        bookmarks: bool = True,
        send_initial_events: bool = False,
    ) -> AsyncGenerator[WatchEvent[T], None]:
        """Changes as they happen, until the server ends the stream (`timeout_s`, or when it likes).

        Raises `Expired` where the history asked for is gone (list again), `Unavailable` where the connection breaks.
        A `BOOKMARK` has no object: it only moves `resource_version` on.
        """
        events = self.watch_raw(
            info_of(cls), namespace, resource_version=resource_version, labels=labels, fields=fields,
            timeout_s=timeout_s, bookmarks=bookmarks, send_initial_events=send_initial_events,
        )  # fmt: skip
        async with aclosing(events):
            async for event in events:
                yield decoded(cls, event)

    async def watch_raw(
        self,
        info: ResourceInfo,
        namespace: str | None = None,
        *,
        resource_version: str | None = None,
        labels: Selector | None = None,
        fields: Selector | None = None,
        timeout_s: float | None = None,
        bookmarks: bool = True,
        send_initial_events: bool = False,
        metadata_only: bool = False,
    ) -> AsyncGenerator[WatchEvent[RawObject], None]:
        """As `watch`, the objects as JSON; with `metadata_only` just that of each, where the server can do so."""
        accept = f"{_METADATA}{_OR_ALL}" if metadata_only else "application/json"
        params = selection(labels, fields) | {"watch": "true", "allowWatchBookmarks": str(bookmarks).lower()}
        if resource_version is not None:
            params["resourceVersion"] = resource_version
        if send_initial_events:
            params |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        if timeout_s is not None:
            params["timeoutSeconds"] = str(max(1, int(timeout_s)))
        silence_s = None if timeout_s is None else timeout_s + 15.0
        async with (
            self._transport.stream(info.path(namespace), params=params, silence_s=silence_s, accept=accept) as chunks,
            aclosing(events_of(chunks)) as events,
        ):
            async for event in events:
                yield event

    # -- writing

    async def create(self, obj: T, *, field_manager: str | None = None, dry_run: bool = False) -> T:
        """The object as the server made it. Raises `AlreadyExists`, `Invalid`."""
        params = writing(field_manager, dry_run)
        return await self._write("POST", type(obj), self._path_of(obj, named=False), encode(obj), params)

    async def replace(self, obj: T, *, field_manager: str | None = None, dry_run: bool = False) -> T:
        """Replaces the object. Raises `Conflict` where it changed since its `resourceVersion`."""
        params = writing(field_manager, dry_run)
        return await self._write("PUT", type(obj), self._path_of(obj), encode(obj), params, idempotent=True)

    async def replace_status(self, obj: T, *, field_manager: str | None = None) -> T:
        """Replaces `status` alone. Raises `Conflict` where the object changed since its `resourceVersion`."""
        path = self._path_of(obj, subresource="status")
        return await self._write("PUT", type(obj), path, encode(obj), writing(field_manager), idempotent=True)

    async def patch(
        self,
        cls: type[T],
        name: str,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        namespace: str | None = None,
        type_: PatchType = "merge",
        subresource: str | None = None,
        field_manager: str | None = None,
        dry_run: bool = False,
    ) -> T:
        """Changes parts of an object. A `metadata.resourceVersion` in a merge patch makes it a `Conflict` if stale."""
        path = self._path(cls, namespace, name, subresource)
        params = writing(field_manager, dry_run)
        # A JSON patch may append; merges can be done twice.
        return await self._write("PATCH", cls, path, body, params, _PATCH_TYPES[type_], idempotent=type_ != "json")

    async def apply(
        self,
        obj: T,
        *,
        field_manager: str,
        force: bool = False,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> T:
        """Server-side apply: the fields in `obj` become `field_manager`'s. Raises `Conflict` where another owns one.

        A partial object is best an `untyped` one: a class fills in its defaults, which would be claimed too.
        """
        path = self._path_of(obj, subresource=subresource)
        wire = encode(obj)
        wire["metadata"] = {k: v for k, v in (wire.get("metadata") or {}).items() if k not in _NOT_APPLIED}
        params = writing(field_manager, dry_run) | ({"force": "true"} if force else {})
        return await self._write("PATCH", type(obj), path, wire, params, _PATCH_TYPES["apply"], idempotent=True)

    async def delete(
        self,
        cls: type[T],
        name: str,
        namespace: str | None = None,
        *,
        propagation: Propagation | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_period_s: int | None = None,
        dry_run: bool = False,
    ) -> T | None:
        """Asks for deletion. The object where it goes later (finalizers, a grace period), `None` where it is gone.

        Raises `NotFound`; `Conflict` where `uid` or `resource_version` is not the object's.
        """
        body = delete_options(propagation, uid, resource_version, grace_period_s, dry_run)
        path = self._path(cls, namespace, name)
        content = (await self._send("DELETE", path, body=msgspec.json.encode(body), idempotent=True)).body
        return decode(cls, content) if goes_later(msgspec.json.decode(content)) else None

    async def delete_collection(
        self,
        cls: type[Any],
        namespace: str | None = None,
        *,
        labels: Selector | None = None,
        fields: Selector | None = None,
        propagation: Propagation | None = None,
        grace_period_s: int | None = None,
    ) -> None:
        """Asks for the deletion of all that are selected in a namespace (by default the context's)."""
        body = delete_options(propagation, None, None, grace_period_s, dry_run=False)
        path = self._path(cls, namespace)
        params = selection(labels, fields)
        await self._send("DELETE", path, params=params, body=msgspec.json.encode(body), idempotent=True)

    async def scale(self, cls: type[Any], name: str, replicas: int, *, namespace: str | None = None) -> None:
        """Sets the number of replicas through the scale subresource."""
        path = self._path(cls, namespace, name, "scale")
        body = msgspec.json.encode({"spec": {"replicas": replicas}})
        await self._send("PATCH", path, body=body, content_type=_PATCH_TYPES["merge"], idempotent=True)

    # -- what is not an object

    async def logs(
        self,
        name: str,
        namespace: str | None = None,
        container: str | None = None,
        *,
        follow: bool = False,
        previous: bool = False,
        tail_lines: int | None = None,
        since_s: int | None = None,
        timestamps: bool = False,
    ) -> AsyncGenerator[bytes, None]:
        """What a container of a Pod wrote, in pieces as they come; with `follow` until it ends."""
        wanted = {
            "container": container,
            "follow": "true" if follow else None,
            "previous": "true" if previous else None,
            "tailLines": tail_lines,
            "sinceSeconds": since_s,
            "timestamps": "true" if timestamps else None,
        }
        params = {key: str(value) for key, value in wanted.items() if value is not None}
        path = f"/api/v1/namespaces/{namespace or self.namespace}/pods/{quote(name)}/log"
        async with self._transport.stream(path, params=params) as chunks:
            async for chunk in chunks:
                yield chunk

    async def can_i(
        self,
        verb: str,
        cls: type[Any],
        *,
        namespace: str | None = None,
        name: str = "",
        subresource: str = "",
    ) -> bool:
        """Whether this user may do that, by the server's own answer."""
        info = info_of(cls)
        attributes = {
            "verb": verb,
            "group": info.group,
            "version": info.version,
            "resource": info.plural,
            "subresource": subresource,
            "namespace": namespace or (self.namespace if info.namespaced else ""),
            "name": name,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
        }
        answer = await self.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review)
        return bool((answer.get("status") or {}).get("allowed"))

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Any:
        """Any request at all: the decoded JSON of the answer, or its text where it is not JSON."""
        content = None if body is None else msgspec.json.encode(body)
        idempotent = method in {"GET", "HEAD", "PUT", "DELETE"}
        response = await self._send(
            method, path, params=params, body=content, content_type=content_type, accept=accept, idempotent=idempotent
        )
        is_json = "json" in response.headers.get("content-type", "")
        return msgspec.json.decode(response.body) if is_json else response.body.decode(errors="replace")

    # -- how

    def _path(
        self, cls: type[Any], namespace: str | None, name: str | None = None, subresource: str | None = None
    ) -> str:
        if name is not None and not name:
            raise ValueError(f"{info_of(cls)}: expected the name of an object, got an empty one")
        return info_of(cls).path(namespace or self.namespace, quote(name) if name else None, subresource)

    def _path_of(self, obj: object, *, named: bool = True, subresource: str | None = None) -> str:
        meta = meta_of(obj)
        return self._path(type(obj), meta.namespace, meta.name if named else None, subresource)

    async def _write(
        self,
        method: str,
        cls: type[T],
        path: str,
        wire: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        params: Mapping[str, str],
        content_type: str = "application/json",
        *,
        idempotent: bool = False,
    ) -> T:
        body = msgspec.json.encode(wire)
        response = await self._send(
            method, path, params=params, body=body, content_type=content_type, idempotent=idempotent
        )
        return decode(cls, response.body)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        idempotent: bool = False,
    ) -> Answer:
        headers = {"accept": accept} | ({"content-type": content_type} if body is not None else {})
        return await self._transport.send(
            method, path, params=params, body=body, headers=headers, idempotent=idempotent or method == "GET"
        )


_NOT_APPLIED = frozenset({"managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink"})
"""What the server refuses, or would take as a precondition, in the object of an apply."""

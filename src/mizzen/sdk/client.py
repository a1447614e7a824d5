"""`mizzen.Client`: the verbs of the command line for Python, against whatever home or cluster is up.

    with mizzen.Client() as client:
        client.apply("resources.yaml")
        client.wait("ie", "churn")
        client.predict("churn", [{"age": 31, "plan": "gold"}])

Calls block. Underneath is one asynchronous client in a thread of its own, so that notebooks, scripts and programs with
an event loop of their own can all use it. Kinds are named as on the command line (`ie`) or by their class.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self, TypeVar

import pyarrow as pa

from mizzen.kinds import Resource
from mizzen.kinds.manifests import load
from mizzen.kube.client import Client as KubeClient
from mizzen.kube.resources import ResourceInfo, Untyped, info_of, untyped
from mizzen.sdk import applying, keys, predicting, replaying, tables, waiting
from mizzen.sdk.applying import Applied
from mizzen.sdk.data import Data
from mizzen.sdk.home import home_folder
from mizzen.sdk.lookup import lookup
from mizzen.sdk.predicting import Address
from mizzen.sdk.replaying import Replays
from mizzen.sdk.tensors import Array

T = TypeVar("T")
Kind = str | type[Resource]
Objects = list[Any]
"""Of our kinds instances of their class, of others dicts."""
Events = list[dict[str, Any]]


class Client:
    """Access to a control plane. Close it, or use it as a context manager; it may be shared by threads.

    `kubeconfig` by default is `$KUBECONFIG`, else the Mizzen home's, else `~/.kube/config`. Methods raise
    `mizzen.kube.errors.ApiError` and its kinds for what the server refuses, `WaitTimeoutError` where time runs out.
    """

    def __init__(self, kubeconfig: str | Path | None = None, namespace: str | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mizzen-client", daemon=True)
        self._thread.start()
        self._kube: KubeClient = self._call(self._connect(kubeconfig))
        self.namespace = namespace or self._kube.namespace
        self._addresses: dict[str, Address] = {}

    async def _connect(self, kubeconfig: str | Path | None) -> KubeClient:  # made where it will be used
        return KubeClient.from_environment(kubeconfig)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def run(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        """Runs `work(kube_client, *arguments)` in the client's thread: for what has no method here."""
        return self._call(work(self._kube, *arguments))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and the thread. Nothing happens the second time."""
        if self._thread.is_alive():
            self._call(self._kube.aclose())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __repr__(self) -> str:
        return f"mizzen.Client({self._kube.connection.server}, namespace={self.namespace!r})"

    @property
    def data(self) -> Data:
        """The namespace's datasets: rows, versions, profiles, SQL, loads."""
        return Data(self.run, self.namespace)

    # -- resources

    def apply(self, manifests: str | Path, *, code: str | Path | None = None, dry_run: bool = False) -> list[Applied]:
        """Makes resources as a file, a folder of files, or a YAML text says; what became of each.

        `code` is the project folder for functions that the manifests name; by default the manifest's own folder.
        Raises `ManifestErrors` with everything that is wrong, `ApplyError`.
        """
        return self._call(self._apply(manifests, Path(code) if code is not None else None, dry_run))

    async def _apply(self, manifests: str | Path, code: Path | None, dry_run: bool) -> list[Applied]:
        is_text = isinstance(manifests, str) and "\n" in manifests
        parsed = load(str(manifests), "the text") if is_text else applying.read([Path(manifests)])
        await applying.with_code(self._kube, parsed, code)
        async with aclosing(applying.apply(self._kube, parsed, namespace=self.namespace, dry_run=dry_run)) as results:
            return [done async for done in results]

    def diff(self, manifests: str | Path, *, code: str | Path | None = None) -> str:
        """What `apply` would change, as a unified diff; empty where nothing."""
        return self._call(self._diff(Path(manifests), Path(code) if code is not None else None))

    async def _diff(self, path: Path, code: Path | None) -> str:
        parsed = applying.read([path])
        await applying.with_code(self._kube, parsed, code)
        return await applying.differences(self._kube, parsed, namespace=self.namespace)

    def get(self, kind: Kind, name: str) -> Any:
        """One object: of our kinds an instance of the class, of others a dict. Raises `NotFound`."""
        return self._call(self._get(kind, name))

    async def _get(self, kind: Kind, name: str) -> Any:
        cls = kind if isinstance(kind, type) else untyped(await self._info(kind))
        return await self._kube.get(cls, name, self.namespace)

    def list(self, kind: Kind, *, labels: str | None = None) -> Objects:
        """All objects of a kind in the namespace."""
        return self._call(self._list(kind, labels))

    async def _list(self, kind: Kind, labels: str | None) -> Objects:
        cls: type[Any] = kind if isinstance(kind, type) else untyped(await self._info(kind))
        return (await self._kube.list(cls, self.namespace, labels=labels)).items

    def delete(self, kind: Kind, name: str, *, wait: bool = True, timeout_s: float = 60.0) -> None:
        """Deletes an object and what it owns. Raises `NotFound`, `WaitTimeoutError`."""
        self._call(self._delete(kind, name, wait, timeout_s))

    async def _delete(self, kind: Kind, name: str, wait: bool, timeout_s: float) -> None:
        info = await self._info(kind)
        await self._kube.delete(untyped(info), name, self.namespace, propagation="Background")
        if wait:
            await waiting.wait_until_gone(self._kube, info, name, namespace=self.namespace, timeout_s=timeout_s)

    def wait(self, kind: Kind, name: str, condition: str = "Ready", *, timeout_s: float = 300.0) -> Untyped:
        """Returns the object when the condition is true. Raises `WaitTimeoutError`, `NotFound`."""
        return self._call(self._wait(kind, name, condition, timeout_s))

    async def _wait(self, kind: Kind, name: str, condition: str, timeout_s: float) -> Untyped:
        info = await self._info(kind)
        found = await waiting.wait_for(
            self._kube, info, name, namespace=self.namespace, condition=condition, timeout_s=timeout_s
        )
        return untyped(info)(found)

    def events(self, about: str | None = None) -> Events:
        """What happened lately, oldest first; `about` is a name or `Kind/name`."""
        return self._call(self._events(about))

    async def _events(self, about: str | None) -> Events:
        return [event async for event in tables.events_of(self._kube, self.namespace, about=about)]

    def logs(self, pod: str, *, tail: int | None = None, previous: bool = False) -> str:
        """What a Pod printed."""
        return self._call(self._logs(pod, tail, previous))

    async def _logs(self, pod: str, tail: int | None, previous: bool) -> str:
        stream = self._kube.logs(pod, self.namespace, tail_lines=tail, previous=previous)
        async with aclosing(stream) as chunks:
            return b"".join([chunk async for chunk in chunks]).decode(errors="replace")

    # -- endpoints

    def predict(self, endpoint: str, data: object) -> dict[str, Array]:
        """Asks an endpoint: rows as dicts, a data frame, an array, or a protocol document; the outputs by name.

        Raises `DataError` where the rows do not fit, `PredictionError` where the endpoint refuses or is not there.
        """
        return self._call(self._predict(endpoint, data))

    def stream(self, endpoint: str, data: Mapping[str, object]) -> Iterator[dict[str, Any]]:
        """Asks an endpoint whose model yields, with inputs by name, and `parameters`: the parts as they come, each with
        its outputs by name.

        Leaving the loop ends the stream. Raises `DataError`, `PredictionError`, also after some parts.
        """
        address = self._call(predicting.address_of(self._kube, endpoint, self.namespace, home_folder()))
        parts = predicting.stream(address, data)
        try:
            while (part := self._call(_next(parts))) is not None:
                yield part
        finally:
            self._call(_closed(parts))

    async def _predict(self, endpoint: str, data: object) -> dict[str, Array]:
        address = self._addresses.get(endpoint)
        if address is None:
            address = await predicting.address_of(self._kube, endpoint, self.namespace, home_folder())
            self._addresses[endpoint] = address
        try:
            return await predicting.predict(address, data)
        except predicting.PredictionError:
            self._addresses.pop(endpoint, None)  # it may have moved, or serve another version: look anew next time
            raise

    def replays(self, rows: Mapping[str, pa.Table]) -> Replays:
        """FeatureViews as they were online at another time, for replays; `rows` are what their sources have, by view.

        Raises `FeatureError`. Close it.
        """
        return self._call(replaying.replays(self._kube, self.namespace, rows))

    def create_token(self, name: str, *endpoints: str) -> str:
        """Makes an API key, which is shown this once; without endpoints it opens all of the namespace."""
        opened = endpoints or (keys.ALL_ENDPOINTS,)
        return self._call(keys.create(self._kube, name, self.namespace, opened))

    def revoke_token(self, name: str) -> None:
        """Takes an API key away. Raises `NotFound`."""
        self._call(keys.revoke(self._kube, name, self.namespace))

    async def _info(self, kind: Kind) -> ResourceInfo:
        return info_of(kind) if isinstance(kind, type) else await lookup(self._kube, kind)


async def _next(parts: AsyncIterator[dict[str, Any]]) -> dict[str, Any] | None:
    return await anext(parts, None)


async def _closed(parts: AsyncIterator[dict[str, Any]]) -> None:
    if isinstance(parts, AsyncGenerator):
        await parts.aclose()

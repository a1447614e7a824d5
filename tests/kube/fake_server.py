"""A scripted API server in memory, as an httpx2 transport: enough of list, watch and the verbs to be followed by an
informer, and knobs for everything that goes wrong on the way.

It runs on virtual time (looptime), where being slow costs nothing. It knows no schemas, no defaulting, no selectors:
what a real server does is tested on one (`test_on_a_server.py`).
"""

import asyncio
import copy
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import httpx2

from mizzen.kube.client import Client
from mizzen.kube.connection import Connection
from mizzen.kube.times import format_time

Json = dict[str, Any]
_PATH = re.compile(
    r"/(?:api|apis/[^/]+)/[^/]+(?:/namespaces/(?P<ns>[^/]+))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?$"
)
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def virtual_now() -> datetime:
    """The time of day on the event loop's clock."""
    return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())


def status(code: int, reason: str, message: str = "", **details: Any) -> Json:
    return {"kind": "Status", "code": code, "reason": reason, "message": message or reason, "details": details}


@dataclass
class Refusal(Exception):
    status: Json
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Answer:
    """A scripted answer to the next request that matches."""

    matches: Callable[[httpx2.Request], bool]
    give: httpx2.Response | Exception


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            yield chunk


def client_over(transport: httpx2.AsyncBaseTransport) -> Client:
    connection = Connection("https://fake.invalid", "default", "a test", None, None)
    return Client(connection, transport=transport, rng=lambda: 0.0)


def client_of(answer: Callable[[httpx2.Request], httpx2.Response]) -> Client:
    """A client whose every request is answered by a function."""
    return client_over(httpx2.MockTransport(answer))


class FakeServer(httpx2.AsyncBaseTransport):
    """Objects by (plural, namespace, name); every change has a revision and stays in `history` until `compact`."""

    def __init__(self, *, streams_lists: bool = True) -> None:
        self.objects: dict[tuple[str, str | None, str], Json] = {}
        self.revision = 10
        self.history: list[tuple[int, str, str, Json]] = []
        self.oldest = 10
        self.requests: list[tuple[str, str]] = []
        self.scripted: list[Answer] = []
        self.streams_lists = streams_lists
        self.repeat_events = False
        self.lose_events = 0
        self.page = 500
        self.down = False
        self.slow_lists = False
        self.held = False
        self._changed = asyncio.Event()
        self._cut = 0
        self._uids = 0

    def client(self) -> Client:
        return client_over(self)

    # -- knobs

    def next(self, give: httpx2.Response | Exception, method: str = "", path: str = "") -> None:
        """Answers the next request of that method and path with this instead."""
        self.scripted.append(Answer(lambda r: r.method.startswith(method) and path in r.url.path, give))

    def cut_watches(self) -> None:
        """Ends all open watches in the middle of a line."""
        self._cut += 1
        self._wake()

    def hold(self, on: bool) -> None:
        """Lets watches fall behind, or catch up."""
        self.held = on
        self._wake()

    def compact(self) -> None:
        """Forgets history: watches from before now are answered 410."""
        self.history.clear()
        self.oldest = self.revision

    # -- direct changes

    def put(self, plural: str, name: str, namespace: str | None = "default", **content: Any) -> Json:
        key = (plural, namespace, name)
        old = self.objects.get(key)
        self.revision += 1
        if old is None:
            self._uids += 1
        meta = {
            "name": name,
            "uid": old["metadata"]["uid"] if old else f"u{self._uids}",
            "creationTimestamp": format_time(EPOCH),
        }
        if namespace is not None:
            meta["namespace"] = namespace
        meta |= content.pop("metadata", {})
        meta["resourceVersion"] = str(self.revision)
        obj = copy.deepcopy({**content, "metadata": meta})
        self.objects[key] = obj
        self._log("MODIFIED" if old else "ADDED", plural, obj)
        return obj

    def remove(self, plural: str, name: str, namespace: str | None = "default") -> None:
        obj = copy.deepcopy(self.objects.pop((plural, namespace, name)))
        self.revision += 1
        obj["metadata"]["resourceVersion"] = str(self.revision)
        self._log("DELETED", plural, obj)

    def of(self, plural: str) -> dict[tuple[str | None, str], Json]:
        return {(ns, name): obj for (p, ns, name), obj in self.objects.items() if p == plural}

    def _log(self, type_: str, plural: str, obj: Json) -> None:
        self.history.append((self.revision, type_, plural, obj))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # -- the wire

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append((request.method, request.url.raw_path.decode()))
        await asyncio.sleep(0)
        if self.down:
            raise httpx2.ConnectError("refused")
        for answer in self.scripted:
            if answer.matches(request):
                self.scripted.remove(answer)
                if isinstance(answer.give, Exception):
                    raise answer.give
                return answer.give
        try:
            response = self._answer(request)
            if self.slow_lists and request.method == "GET":
                await asyncio.sleep(0.5)
            return response
        except Refusal as refusal:
            return httpx2.Response(refusal.status["code"], json=refusal.status, headers=refusal.headers)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        match = _PATH.match(request.url.path)
        if match is None:
            raise Refusal(status(404, "NotFound", "no such path"))
        namespace, plural, name = match["ns"], match["plural"], match["name"]
        params = {key: values[0] for key, values in parse_qs(request.url.query.decode()).items()}
        body = json.loads(request.content) if request.content else {}
        if name is None and request.method == "GET":
            return (
                self._watch(plural, namespace, params) if params.get("watch") else self._list(plural, namespace, params)
            )
        if request.method == "POST":
            return self._create(plural, namespace, body)
        key = (plural, namespace, name)
        obj = self.objects.get(key)
        if obj is None:
            raise Refusal(status(404, "NotFound", f'{plural} "{name}" not found'))
        if request.method == "DELETE":
            self.remove(plural, name, namespace)
        elif request.method in {"PUT", "PATCH"}:
            obj = self._change(key, obj, body, replace=request.method == "PUT")
        return httpx2.Response(200, json=obj)

    def _create(self, plural: str, namespace: str | None, body: Json) -> httpx2.Response:
        meta = body.get("metadata") or {}
        name = meta.get("name") or f"{meta.get('generateName', '')}{self.revision}"
        if (plural, namespace, name) in self.objects:
            raise Refusal(status(409, "AlreadyExists", f'{plural} "{name}" already exists'))
        body["metadata"] = {k: v for k, v in meta.items() if k not in {"name", "namespace", "resourceVersion"}}
        return httpx2.Response(201, json=self.put(plural, name, namespace, **body))

    def _change(self, key: tuple[str, str | None, str], obj: Json, body: Json, *, replace: bool) -> Json:
        sent = (body.get("metadata") or {}).get("resourceVersion")
        if sent and sent != obj["metadata"]["resourceVersion"]:
            raise Refusal(status(409, "Conflict", "the object has been modified"))
        new = body if replace else _merged(obj, body)
        new["metadata"] = {**obj["metadata"], **(new.get("metadata") or {})}
        return self.put(key[0], key[2], key[1], **new)

    def _list(self, plural: str, namespace: str | None, params: Json) -> httpx2.Response:
        found = [obj for (ns, _), obj in sorted(self.of(plural).items(), key=str) if namespace in {None, ns}]
        start = int(params.get("continue") or 0)
        page = min(self.page, int(params.get("limit") or 10**9))
        more = str(start + page) if start + page < len(found) else ""
        meta = {"resourceVersion": str(self.revision), "continue": more}
        return httpx2.Response(200, json={"metadata": meta, "items": found[start : start + page]})

    def _watch(self, plural: str, namespace: str | None, params: Json) -> httpx2.Response:
        initial = bool(params.get("sendInitialEvents"))
        if initial and not self.streams_lists:
            raise Refusal(status(422, "Invalid", "sendInitialEvents is forbidden for watch unless …"))
        since = self.revision if initial else int(params["resourceVersion"])
        timeout_s = float(params.get("timeoutSeconds", 1800))
        return httpx2.Response(200, stream=_Stream(self._events(plural, namespace, since, initial, timeout_s)))

    async def _events(
        self, plural: str, namespace: str | None, since: int, initial: bool, timeout_s: float
    ) -> AsyncIterator[bytes]:
        sent: list[bytes] = []
        cut, until_s = self._cut, asyncio.get_running_loop().time() + timeout_s
        if since < self.oldest:
            yield _line("ERROR", status(410, "Expired", "too old resource version"))
            return
        if initial:
            for (ns, _), obj in self.of(plural).items():
                if namespace in {None, ns}:
                    yield _line("ADDED", obj)
            yield _line("BOOKMARK", _bookmark(since, end=True))
        while True:
            for revision, type_, kind, obj in list(self.history):
                if revision <= since or self.held:
                    continue
                since = revision
                if kind == plural and namespace in {None, obj["metadata"].get("namespace")}:
                    if self.lose_events:
                        self.lose_events -= 1
                        continue
                    line = _line(type_, obj)
                    sent.append(line)
                    # In two pieces, and what came before once more where the script says so: a reader must depend on
                    # neither.
                    yield line[:7]
                    yield line[7:] + (b"".join(sent[-3:]) if self.repeat_events else b"")
            changed = self._changed
            if self._cut != cut:
                yield b'{"type":"ADDED","obj'
                raise httpx2.ReadError("cut")
            left_s = until_s - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(left_s):
                    await changed.wait()
            except TimeoutError:
                return


def _line(type_: str, obj: Json) -> bytes:
    return json.dumps({"type": type_, "object": obj}).encode() + b"\n"


def _bookmark(revision: int, *, end: bool) -> Json:
    annotations = {"k8s.io/initial-events-end": "true"} if end else {}
    return {"metadata": {"resourceVersion": str(revision), "annotations": annotations}}


def _merged(old: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    new = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        else:
            new[key] = _merged(new.get(key), value)
    return new

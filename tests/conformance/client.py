"""A Kubernetes client that hides nothing: exact status codes, headers and bodies over HTTPS.

`Api` is one identity at one server. `Api.resource` names a collection once (`resource("apps/v1/deployments", "ns")`)
and returns a `Resource`, whose verbs give the decoded answer or raise `Refused` with the answer in it; a test that
expects a refusal writes `with refused(409, "Conflict") as error:` and looks at `error.status`. A `Watch` is a stream of
events with a deadline for each wait. Nothing here retries, caches or guesses.
"""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx2
from lightkube.config.client_adapter import user_auth, verify_cluster
from lightkube.config.kubeconfig import KubeConfig
from lightkube.config.models import User

Json = dict[str, Any]
Names = list[str]

PATCH_TYPES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
TICK_S = 0.02
"""How long a poll of something that cannot be watched rests between two tries."""
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
WAIT_S = 20.0
"""How long a test waits for an event that must come: far above what any server needs, so that it means `never`."""


class Refused(Exception):
    """An answer other than 2xx. `status` is the `metav1.Status` of the body, empty where the body is not JSON."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.code = response.status_code
        try:
            self.status: Json = response.json()
        except ValueError:
            self.status = {}
        self.message: str = self.status.get("message", response.text)
        self.details: Json = self.status.get("details", {})
        super().__init__(f"{response.request.method} {response.request.url}: {self.code} {self.message}")

    @property
    def causes(self) -> list[tuple[str, str]]:
        """(field, reason) of each cause, in the order given."""
        return [(cause.get("field", ""), cause["reason"]) for cause in self.details.get("causes", [])]


class Caught:
    """What `refused` hands out: the `Refused` once the block has ended."""

    error: Refused | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.error, name)


@contextmanager
def refused(code: int, reason: str | None = None, message: str = "") -> Iterator[Any]:
    """Expect the block's request to be refused with this code and reason, and a message that contains `message`."""
    caught = Caught()
    try:
        yield caught
    except Refused as error:
        caught.error = error
    assert caught.error is not None, f"expected {code} {reason}, but the request was accepted"
    found = (caught.error.code, caught.error.status.get("reason") if reason else None)
    assert found == (code, reason), f"expected {code} {reason}, found {found}: {caught.error}"
    assert message in caught.error.message, str(caught.error)


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Ask until it holds: for what a server may publish a little later and nobody can watch (discovery, OpenAPI).

    A server that is consistent at once is asked once.
    """
    rest, deadline = threading.Event(), time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"not in {WAIT_S:g} s: {what}"
        rest.wait(TICK_S)


class Event(NamedTuple):
    """One watch event."""

    type: str
    object: Json

    @property
    def name(self) -> str:
        return str(self.object["metadata"].get("name", ""))

    @property
    def brief(self) -> tuple[str, str]:
        return self.type, self.name


class Watch:
    """The events of one watch request, each waited for at most `WAIT_S`."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()

    def __iter__(self) -> Iterator[Event]:
        while (line := self._line()) is not None:
            if line:
                event = json.loads(line)
                yield Event(event["type"], event["object"])

    def _line(self) -> str | None:
        """The next line, or None at the end of the stream."""
        try:
            return next(self._lines, None)
        except httpx2.ReadTimeout as error:
            raise AssertionError(f"no event in {WAIT_S:g} s on {self.response.request.url}") from error

    def next(self) -> Event:
        for event in self:
            return event
        raise AssertionError("the watch ended, an event was expected")

    def take(self, count: int) -> list[Event]:
        return [self.next() for _ in range(count)]

    def until(self, wanted: Callable[[Event], bool]) -> Event:
        """The first event that is wanted; those before it are passed over."""
        for event in self:
            if wanted(event):
                return event
        raise AssertionError("the watch ended before the event that was waited for")

    def rest(self) -> list[Event]:
        """All events until the server ends the watch."""
        return list(self)


@dataclass(frozen=True)
class Server:
    """Where the server is and how to trust it, from a kubeconfig; makes HTTP connections with or without identity."""

    kubeconfig: Path
    url: str
    _config: Any = field(repr=False)

    @classmethod
    def of(cls, kubeconfig: Path) -> Self:
        config = KubeConfig.from_file(kubeconfig).get()
        return cls(kubeconfig, config.cluster.server.rstrip("/"), config)

    def context(self, *, identity: bool) -> ssl.SSLContext:
        user = self._config.user if identity else User()
        return verify_cluster(self._config.cluster, user, self._config.abs_file, trust_env=False)

    def http(self, *, identity: bool) -> httpx2.Client:
        return httpx2.Client(
            base_url=self.url,
            verify=self.context(identity=identity),
            auth=user_auth(self._config.user) if identity else None,
            timeout=httpx2.Timeout(WAIT_S),
            trust_env=False,
            limits=httpx2.Limits(max_connections=None),
        )


class Api:
    """One identity at one server."""

    def __init__(self, admin: httpx2.Client, bare: httpx2.Client, headers: Json | None = None) -> None:
        self._admin, self._bare = admin, bare
        self._http = admin
        self._headers = dict(headers or {})

    def anonymous(self, **headers: str) -> "Api":
        """The same server without credentials."""
        other = Api(self._admin, self._bare, headers)
        other._http = self._bare
        return other

    def with_token(self, token: str) -> "Api":
        return self.anonymous(Authorization=f"Bearer {token}")

    def impersonating(self, user: str, *groups: str, **headers: str) -> "Api":
        """As the administrator, on behalf of another user. More headers by name, `_` for `-`."""
        impersonation = {"Impersonate-User": user} | {key.replace("_", "-"): value for key, value in headers.items()}
        other = Api(self._admin, self._bare, impersonation)
        other._headers["Impersonate-Group"] = list(groups)
        return other

    def _prepared(self, headers: Json | None) -> list[tuple[str, str]]:
        pairs: list[tuple[str, str]] = []
        for key, value in (self._headers | (headers or {})).items():
            pairs += [(key, one) for one in value] if isinstance(value, list) else [(key, value)]
        return pairs

    def request(
        self, method: str, path: str, *, content: bytes | None = None, headers: Json | None = None, **query: Any
    ) -> httpx2.Response:
        """One request as it is; any answer is returned."""
        return self._http.request(method, path, params=query or None, content=content, headers=self._prepared(headers))

    def call(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json", **query: Any
    ) -> Json:
        """One request with a JSON body; the decoded answer, or `Refused`."""
        content = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": content_type}
        response = self.request(method, path, content=content, headers=headers, **query)
        if not response.is_success:
            raise Refused(response)
        answer: Json = response.json()
        return answer

    def get(self, path: str, **query: Any) -> Json:
        return self.call("GET", path, **query)

    def table(self, path: str, **query: Any) -> Json:
        response = self.request("GET", path, headers={"Accept": TABLE}, **query)
        assert response.is_success, response.text
        table: Json = response.json()
        assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
        return table

    @contextmanager
    def lines(self, path: str, **query: Any) -> Iterator[Iterator[str]]:
        """The lines of a text answer as they come."""
        with self._http.stream("GET", path, params=query, headers=self._prepared(None)) as response:
            if not response.is_success:
                response.read()
                raise Refused(response)
            yield response.iter_lines()

    @contextmanager
    def watch(self, path: str, *, headers: Json | None = None, **query: Any) -> Iterator[Watch]:
        params = {"watch": "true"} | query
        with self._http.stream("GET", path, params=params, headers=self._prepared(headers)) as response:
            if not response.is_success:
                response.read()
                raise Refused(response)
            yield Watch(response)

    def resource(self, resource: str, namespace: str = "") -> "Resource":
        """`configmaps` or `apps/v1/deployments`; without a namespace: cluster-wide."""
        *group_version, plural = resource.split("/")
        root = "/apis/" + "/".join(group_version) if group_version else "/api/v1"
        return Resource(self, f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}")


@dataclass(frozen=True)
class Resource:
    """The objects of one type in one namespace or cluster-wide, as one identity sees them."""

    api: Api
    path: str

    def at(self, name: str, subresource: str = "") -> str:
        return f"{self.path}/{name}/{subresource}" if subresource else f"{self.path}/{name}"

    def create(self, body: Json, **query: Any) -> Json:
        return self.api.call("POST", self.path, body, **query)

    def post(self, name: str, subresource: str, body: Json, **query: Any) -> Json:
        return self.api.call("POST", self.at(name, subresource), body, **query)

    def get(self, name: str, subresource: str = "", **query: Any) -> Json:
        return self.api.call("GET", self.at(name, subresource), **query)

    def list(self, **query: Any) -> Json:
        return self.api.call("GET", self.path, **query)

    def names(self, **query: Any) -> Names:
        return [item["metadata"]["name"] for item in self.list(**query)["items"]]

    def replace(self, body: Json, subresource: str = "", **query: Any) -> Json:
        return self.api.call("PUT", self.at(body["metadata"]["name"], subresource), body, **query)

    def patch(self, name: str, body: Any, kind: str = "merge", subresource: str = "", **query: Any) -> Json:
        return self.api.call("PATCH", self.at(name, subresource), body, content_type=PATCH_TYPES[kind], **query)

    def apply(self, body: Json, manager: str = "conformance", subresource: str = "", **query: Any) -> Json:
        """Server-side apply."""
        return self.patch(body["metadata"]["name"], body, "apply", subresource, fieldManager=manager, **query)

    def delete(self, name: str, options: Json | None = None, **query: Any) -> Json:
        return self.api.call("DELETE", self.at(name), options, **query)

    def delete_all(self, options: Json | None = None, **query: Any) -> Json:
        return self.api.call("DELETE", self.path, options, **query)

    def watch(self, **query: Any) -> Any:
        return self.api.watch(self.path, **query)

    def exists(self, name: str) -> bool:
        response = self.api.request("GET", self.at(name))
        assert response.status_code in {200, 404}, response.text
        return response.status_code == 200

    def wait(self, name: str, wanted: Callable[[Json], bool]) -> Json:
        """The object once it is as wanted; a watch that starts with the present state."""
        with self.watch(fieldSelector=f"metadata.name={name}") as watch:
            return watch.until(lambda event: event.type != "DELETED" and wanted(event.object)).object

    def wait_gone(self, name: str) -> None:
        """Return once the object is deleted. A list first: a watch of what is already gone would wait for ever."""
        seen = self.list(fieldSelector=f"metadata.name={name}")
        if seen["items"]:
            version = seen["metadata"]["resourceVersion"]
            with self.watch(fieldSelector=f"metadata.name={name}", resourceVersion=version) as watch:
                watch.until(lambda event: event.type == "DELETED")

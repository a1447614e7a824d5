"""Who may talk to the kubelet server: whoever the API server says may.

Two ways to say who one is, as with any kubelet: a client certificate of the cluster's CA (which the API server
publishes in ConfigMap `kube-system/extension-apiserver-authentication`), or a bearer token, which the API server is
asked about (TokenReview). What that user may do is asked too (SubjectAccessReview on `nodes`, subresource `log`,
`stats`, `metrics`, `pods`, or `proxy` for all). Answers are kept for a short while.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mizzen.kube.client import Client
from mizzen.kube.errors import ApiError

ALLOWED_S, DENIED_S = 120.0, 10.0
_REMEMBERED_MAX = 1024


@dataclass(frozen=True, slots=True)
class User:
    """Who asks, by the API server's word."""

    name: str
    groups: tuple[str, ...] = ()


class Refused(Exception):
    """401: we do not know who that is. 403: they may not. 503: the API server does not say."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Identity:
    """Asks the API server, and remembers what it said."""

    def __init__(self, client: Client, node: str, now_s: Callable[[], float]) -> None:
        self._client, self._node, self._now_s = client, node, now_s
        self._remembered: dict[tuple[Any, ...], tuple[float, Any]] = {}

    async def allow(self, certificate: Mapping[str, object] | None, bearer: str, subresource: str) -> User:
        """The user, where that may be done. Raises `Refused`."""
        try:
            user = user_of(certificate) if certificate else None
            if user is None and bearer:
                user = await self._review_token(bearer)
            if user is None:
                raise Refused(401, "Unauthorized")
            for wanted in dict.fromkeys((subresource, "proxy")):
                if await self._may(user, wanted):
                    return user
        except ApiError as error:
            raise Refused(503, f"the API server does not say who may do this: {error}") from error
        raise Refused(403, f"Forbidden (user={user.name}, verb=get, resource=nodes, subresource={subresource})")

    async def _review_token(self, token: str) -> User | None:
        key = ("token", hashlib.sha256(token.encode()).digest())
        if key in self._remembered and self._remembered[key][0] > self._now_s():
            known: User | None = self._remembered[key][1]
            return known
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        answer = await self._client.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body=body)
        status = answer.get("status") or {}
        user = None
        if status.get("authenticated"):
            found = status.get("user") or {}
            user = User(str(found.get("username") or ""), tuple(found.get("groups") or ()))
        self._remember(key, user, ALLOWED_S if user else DENIED_S)
        return user

    async def _may(self, user: User, subresource: str) -> bool:
        key = ("may", user, subresource)
        if key in self._remembered and self._remembered[key][0] > self._now_s():
            return bool(self._remembered[key][1])
        attributes = {
            "verb": "get",
            "version": "v1",
            "resource": "nodes",
            "subresource": subresource,
            "name": self._node,
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user.name, "groups": list(user.groups), "resourceAttributes": attributes},
        }
        answer = await self._client.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body=body)
        allowed = bool((answer.get("status") or {}).get("allowed"))
        self._remember(key, allowed, ALLOWED_S if allowed else DENIED_S)
        return allowed

    def _remember(self, key: tuple[Any, ...], value: object, for_s: float) -> None:
        if len(self._remembered) >= _REMEMBERED_MAX:
            self._remembered.clear()
        self._remembered[key] = (self._now_s() + for_s, value)


def user_of(certificate: Mapping[str, object]) -> User | None:
    """The user that a verified client certificate names: CN, with each O a group."""
    subject: Any = certificate.get("subject") or ()
    pairs = [pair for part in subject for pair in part]
    name = next((value for key, value in pairs if key == "commonName"), "")
    groups = tuple(value for key, value in pairs if key == "organizationName")
    return User(name, (*groups, "system:authenticated")) if name else None

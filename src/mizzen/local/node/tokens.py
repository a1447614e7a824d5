"""Service-account tokens for the Pods' volumes: issued for one Pod by TokenRequest, renewed at 80 % of their life.

A token is bound to its Pod: the API server stops taking it when the Pod is gone. Tokens are kept in memory and in the
Pod's volume only; after a restart of the node they are asked for anew.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from mizzen.kube.client import Client
from mizzen.kube.errors import ApiError
from mizzen.kube.times import parse_time
from mizzen.local.node.moments import Clock
from mizzen.local.node.podspec import PodSpec
from mizzen.local.node.volumes import MountError, TokenWanted

_RENEW_AT = 0.8
_RENEW_AFTER_S = 24 * 3600.0
"""However long a token lives, it is renewed daily, as by the kubelet."""
_JITTER = 0.02


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    expires: float
    """Wall clock: it is the server's word."""
    renew: float
    """Steady clock."""


class TokenKeeper:
    """The tokens of one Pod."""

    def __init__(self, client: Client, clock: Clock, rng: random.Random) -> None:
        self._client, self._clock, self._rng = client, clock, rng
        self._tokens: dict[TokenWanted, _Token] = {}

    def __repr__(self) -> str:
        return f"TokenKeeper({len(self._tokens)} tokens)"

    @property
    def renew(self) -> float | None:
        """The steady time at which the next token should be renewed."""
        return min((token.renew for token in self._tokens.values()), default=None)

    async def get(self, pod: PodSpec, wanted: frozenset[TokenWanted]) -> Mapping[TokenWanted, str]:
        """The tokens, new where one is due. Raises `MountError` where there is none and none can be had."""
        for want in sorted(wanted, key=repr):
            now = self._clock()
            held = self._tokens.get(want)
            if held is not None and now.steady < held.renew:
                continue
            try:
                self._tokens[want] = await self._request(pod, want)
            except ApiError as error:
                if held is None or held.expires <= now.wall:
                    account = pod.spec.get("serviceAccountName") or "default"
                    raise MountError("token", f"failed to get a token for {account}: {error}") from error
                retry = now.steady + 60.0
                self._tokens[want] = _Token(held.text, held.expires, retry)
        return {want: self._tokens[want].text for want in wanted}

    async def _request(self, pod: PodSpec, want: TokenWanted) -> _Token:
        account = pod.spec.get("serviceAccountName") or "default"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [want.audience] if want.audience else [],
                "expirationSeconds": want.life_s,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid},
            },
        }
        path = f"/api/v1/namespaces/{pod.namespace}/serviceaccounts/{account}/token"
        answer = await self._client.request("POST", path, body=body)
        now = self._clock()
        expires = parse_time(answer["status"].get("expirationTimestamp"))
        ends = now.wall + want.life_s if expires is None else expires.timestamp()
        life_s = max(ends - now.wall, 0.0)
        renew_s = min(life_s * _RENEW_AT, _RENEW_AFTER_S) * (1.0 - self._rng.random() * _JITTER)
        return _Token(answer["status"]["token"], ends, now.steady + renew_s)

"""Tokens of service accounts: asked for with a TokenRequest, bound to a Pod, checked against what still exists.

A token names its audiences, ends by itself, and dies early with what it is bound to: the service account and, where
it was asked for a Pod, Node or Secret, that object, each known by uid, so that a successor of the same name inherits
nothing. Claims are those of Kubernetes, so that any OIDC consumer that trusts this issuer can use them.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mizzen.local.apiserver.errors import BadRequest, Cause, Conflict, Invalid, NotFound
from mizzen.local.apiserver.security.jwt import InvalidToken, KeyRing
from mizzen.local.apiserver.security.tokens import AUTHENTICATED
from mizzen.local.apiserver.types import Json, Reader, User

ISSUER = "https://kubernetes.default.svc.cluster.local"
EXPIRATION_S_MIN = 600
EXPIRATION_S_MAX = 1 << 32
EXPIRATION_S_DEFAULT = 3600
LEEWAY_S = 60
"""How far clocks may differ, and how long a token outlives the deletion of what it is bound to."""

_USERNAME = "system:serviceaccount:"
_GROUPS = "system:serviceaccounts"
_BOUND = {"Pod": ("pods", True), "Secret": ("secrets", True), "Node": ("nodes", False)}
"""What a token may be bound to: plural, and whether it lives in the service account's namespace."""


def username(namespace: str, name: str) -> str:
    return f"{_USERNAME}{namespace}:{name}"


def groups(namespace: str) -> tuple[str, ...]:
    return _GROUPS, f"{_GROUPS}:{namespace}", AUTHENTICATED


@dataclass(frozen=True, slots=True)
class ServiceAccountTokens:
    """Issues and checks tokens. `uuid` makes the id of a token, by which a log may name it."""

    keys: KeyRing
    reader: Reader
    uuid: Callable[[], str]
    issuer: str = ISSUER
    api_audiences: tuple[str, ...] = (ISSUER,)

    def issue(self, namespace: str, name: str, request: Json, now: dt.datetime) -> Json:
        """Answers a TokenRequest for the service account: the request with its status."""
        account = self._account(namespace, name)
        spec = _checked(request, namespace, name, account, self.api_audiences)
        bound = self._bound_claims(namespace, name, spec.get("boundObjectRef"))
        issued_s = int(now.timestamp())
        expires_s = issued_s + spec["expirationSeconds"]
        token = self.keys.sign(
            {
                "aud": spec["audiences"],
                "exp": expires_s,
                "iat": issued_s,
                "iss": self.issuer,
                "jti": self.uuid(),
                "kubernetes.io": {
                    "namespace": namespace,
                    **bound,
                    "serviceaccount": {"name": name, "uid": account["metadata"]["uid"]},
                },
                "nbf": issued_s,
                "sub": username(namespace, name),
            }
        )
        metadata = {
            **(request.get("metadata") or {}),
            "name": name,
            "namespace": namespace,
            "uid": account["metadata"]["uid"],
            "creationTimestamp": _timestamp(issued_s),
        }
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": metadata,
            "spec": spec,
            "status": {"token": token, "expirationTimestamp": _timestamp(expires_s)},
        }

    def _account(self, namespace: str, name: str) -> Json:
        account = self.reader.get("", "serviceaccounts", namespace, name)
        if account is None:
            raise NotFound(f'serviceaccounts "{name}" not found', name=name, kind="serviceaccounts")
        return account

    def _bound_claims(self, namespace: str, account: str, ref: Json | None) -> Json:
        """The claims that bind a token to an object, which must be there."""
        if ref is None:
            return {}
        kind, name = ref.get("kind", ""), ref.get("name", "")
        if ref.get("apiVersion") != "v1" or kind not in _BOUND:
            group, _, version = str(ref.get("apiVersion", "")).rpartition("/")
            raise BadRequest(f"cannot bind token to object of type {group}/{version}, Kind={kind}")
        plural, namespaced = _BOUND[kind]
        found = self.reader.get("", plural, namespace if namespaced else "", name)
        if found is None:
            raise NotFound(f'{plural} "{name}" not found', name=name, kind=plural)
        if kind == "Pod" and found.get("spec", {}).get("serviceAccountName", "default") != account:
            raise BadRequest(
                f'cannot bind token for serviceaccount "{account}" to pod running with different serviceaccount name.'
            )
        uid = found["metadata"]["uid"]
        if ref.get("uid") and ref["uid"] != uid:
            raise Conflict(
                f'Operation cannot be fulfilled on {kind} "{name}": the UID in the bound object reference '
                f"({ref['uid']}) does not match the UID in record. "
                "The object might have been deleted and then recreated",
                name=name,
                kind=kind,
            )
        claims: Json = {kind.lower(): {"name": name, "uid": uid}}
        node_name = found.get("spec", {}).get("nodeName") if kind == "Pod" else None
        if node_name:
            node = self.reader.get("", "nodes", "", node_name)
            claims["node"] = {"name": node_name} | ({"uid": node["metadata"]["uid"]} if node else {})
        return claims

    # Checking

    def claims(self, token: str) -> Json:
        """The claims of a token that we signed, which never change; `user` says whether they still hold."""
        claims = self.keys.verify(token)
        if claims.get("iss") != self.issuer:
            raise InvalidToken("issued by somebody else")
        return claims

    def user(self, claims: Json, audiences: tuple[str, ...], now: dt.datetime) -> tuple[User, tuple[str, ...]]:
        """Whom these claims stand for now, and for which of `audiences` (none: the API server's own)."""
        now_s = now.timestamp()
        if _number(claims, "exp") + LEEWAY_S <= now_s:
            raise InvalidToken("service account token has expired")
        if _number(claims, "nbf") - LEEWAY_S > now_s or _number(claims, "iat") - LEEWAY_S > now_s:
            raise InvalidToken("service account token is not valid yet")
        offered = claims.get("aud")
        offered = [offered] if isinstance(offered, str) else offered or []
        accepted = tuple(audience for audience in audiences or self.api_audiences if audience in offered)
        if not accepted:
            raise InvalidToken(
                f"token audiences {offered} are not those of the target {audiences or self.api_audiences}"
            )
        private = claims.get("kubernetes.io") or {}
        namespace, account = private.get("namespace", ""), private.get("serviceaccount") or {}
        if claims.get("sub") != username(namespace, account.get("name", "")):
            raise InvalidToken("the subject is not the service account")
        self._must_exist("serviceaccounts", namespace, account, now_s)
        extra: list[tuple[str, tuple[str, ...]]] = [
            ("authentication.kubernetes.io/credential-id", (f"JTI={claims.get('jti', '')}",))
        ]
        for kind, (plural, namespaced) in _BOUND.items():
            ref = private.get(kind.lower())
            if not ref:
                continue
            if kind != "Node" or "pod" not in private:  # a Pod's token only mentions the Pod's node
                self._must_exist(plural, namespace if namespaced else "", ref, now_s)
            if kind != "Secret":
                extra.append((f"authentication.kubernetes.io/{kind.lower()}-name", (ref.get("name", ""),)))
                extra.append((f"authentication.kubernetes.io/{kind.lower()}-uid", (ref.get("uid", ""),)))
        user = User(
            username(namespace, account["name"]), groups(namespace), account.get("uid", ""), tuple(sorted(extra))
        )
        return user, accepted

    def _must_exist(self, plural: str, namespace: str, ref: Json, now_s: float) -> None:
        found = self.reader.get("", plural, namespace, ref.get("name", ""))
        if found is None or found["metadata"].get("uid") != ref.get("uid"):
            raise InvalidToken(f"service account token has been invalidated: {plural} {ref.get('name')} is gone")
        deleted = found["metadata"].get("deletionTimestamp")
        if deleted and dt.datetime.fromisoformat(deleted).timestamp() < now_s - LEEWAY_S:
            raise InvalidToken(f"service account token has been invalidated: {plural} {ref.get('name')} is deleted")

    # Discovery

    def openid_configuration(self, jwks_uri: str) -> Json:
        """What `/.well-known/openid-configuration` answers."""
        return {
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }


def _checked(request: Json, namespace: str, name: str, account: Json, audiences: tuple[str, ...]) -> Json:
    """The request's spec with its defaults."""
    metadata, spec = request.get("metadata") or {}, request.get("spec") or {}
    uid = account["metadata"]["uid"]
    for field, wanted in (("name", name), ("namespace", namespace)):
        if metadata.get(field, wanted) not in {"", wanted}:
            problem = f'Invalid value: "{metadata[field]}": must match the service account {field} if specified'
            raise _invalid(name, f"metadata.{field}", problem)
    if metadata.get("uid", uid) not in {"", uid}:
        raise Conflict(
            f'Operation cannot be fulfilled on TokenRequest.authentication.k8s.io "{name}": '
            f"the UID in the token request ({metadata['uid']}) does not match the UID of the service account ({uid})",
            name=name,
            group="authentication.k8s.io",
            kind="TokenRequest",
        )
    expiration_s = spec.get("expirationSeconds")
    expiration_s = EXPIRATION_S_DEFAULT if expiration_s is None else expiration_s
    if not isinstance(expiration_s, int) or isinstance(expiration_s, bool):
        raise BadRequest(f"spec.expirationSeconds: expected an integer, got {expiration_s!r}")
    if expiration_s < EXPIRATION_S_MIN:
        problem = f"Invalid value: {expiration_s}: may not specify a duration less than 10 minutes"
        raise _invalid("", "spec.expirationSeconds", problem)
    if expiration_s > EXPIRATION_S_MAX:
        problem = f"Invalid value: {expiration_s}: may not specify a duration larger than 2^32 seconds"
        raise _invalid("", "spec.expirationSeconds", problem)
    return {
        "audiences": list(spec.get("audiences") or audiences),
        "expirationSeconds": expiration_s,
        "boundObjectRef": spec.get("boundObjectRef"),
    }


def _invalid(name: str, field: str, problem: str) -> Invalid:
    return Invalid(
        f'TokenRequest.authentication.k8s.io "{name}" is invalid: {field}: {problem}',
        name=name,
        group="authentication.k8s.io",
        kind="TokenRequest",
        causes=(Cause("FieldValueInvalid", problem, field),),
    )


def _number(claims: Json, claim: str) -> float:
    value: Any = claims.get(claim)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidToken(f"expected a time in the claim {claim}")
    return value


def _timestamp(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

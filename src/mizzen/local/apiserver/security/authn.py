"""From an Authorization header to a user.

A request without credentials is anonymous, and only paths that say nothing about the cluster are open to it;
everything else answers 401, as Kubernetes does where anonymous access is limited to health checks. A request with a
credential that does not hold is 401 everywhere: it is never taken for anonymous.

Checking a signature is the costly part and its result never changes, so it is kept, by the token's SHA-256, in a
bounded cache. Whether the token has run out, and whether its account and Pod still exist, is asked on every request.
"""

import datetime as dt
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from mizzen.local.apiserver.errors import Unauthorized
from mizzen.local.apiserver.security.jwt import TOKEN_BYTES_MAX, InvalidToken, looks_signed
from mizzen.local.apiserver.security.service_account_tokens import ServiceAccountTokens
from mizzen.local.apiserver.security.tokens import UserTokens
from mizzen.local.apiserver.types import Json, User

ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))
PUBLIC_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/version", "/version/"})
"""Open to anybody. What lies below them says more (`/readyz/etcd`), and is not."""

_CACHED_MAX = 1024


@dataclass(frozen=True, slots=True)
class AuthenticatorStatistics:
    cached: int
    hits: int
    misses: int
    rejected: int


class Authenticator:
    """Knows users by bearer tokens. `clock` gives the time of a request, aware."""

    def __init__(
        self, user_tokens: UserTokens, service_account_tokens: ServiceAccountTokens, clock: Callable[[], dt.datetime]
    ) -> None:
        self._user_tokens = user_tokens
        self._service_account_tokens = service_account_tokens
        self._clock = clock
        self._claims: dict[bytes, Json] = {}
        self._hits = self._misses = self._rejected = 0

    def authenticate(
        self, authorization_header: str | None, audiences: tuple[str, ...] = (), *, path: str = ""
    ) -> User:
        """Who sends this header. Raises `Unauthorized`, whose message says nothing about why."""
        if authorization_header is None:
            if path in PUBLIC_PATHS:
                return ANONYMOUS
            raise Unauthorized("Unauthorized")
        scheme, _, token = authorization_header.strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            self._rejected += 1
            raise Unauthorized("Unauthorized")
        try:
            return self.check(token.strip(), audiences)[0]
        except InvalidToken as reason:
            self._rejected += 1
            raise Unauthorized("Unauthorized") from reason

    def check(self, token: str, audiences: tuple[str, ...] = ()) -> tuple[User, tuple[str, ...]]:
        """The user of a token and the audiences it was accepted for; raises `InvalidToken` with the reason."""
        now = self._clock()
        if len(token) > TOKEN_BYTES_MAX or not token.isascii():
            raise InvalidToken("not a token of ours")
        if looks_signed(token):
            return self._service_account_tokens.user(self._verified(token), audiences, now)
        own = self._service_account_tokens.api_audiences
        accepted = tuple(audience for audience in audiences or own if audience in own)
        user = self._user_tokens.find(token, now) if accepted else None
        if user is None:
            raise InvalidToken("invalid bearer token")
        return user, accepted

    def _verified(self, token: str) -> Json:
        key = hashlib.sha256(token.encode()).digest()
        claims = self._claims.get(key)
        if claims is not None:
            self._hits += 1
            return claims
        self._misses += 1
        claims = self._service_account_tokens.claims(token)
        if len(self._claims) >= _CACHED_MAX:
            del self._claims[next(iter(self._claims))]  # the oldest
        self._claims[key] = claims
        return claims

    def statistics(self) -> AuthenticatorStatistics:
        return AuthenticatorStatistics(len(self._claims), self._hits, self._misses, self._rejected)

    def __repr__(self) -> str:
        return f"Authenticator({self.statistics()})"

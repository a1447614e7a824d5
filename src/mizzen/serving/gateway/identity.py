"""Who may call what: API keys, known by their SHA-256.

A key is never kept, only its hash, and a hash is compared by looking it up, so that how long it takes tells nothing of
keys. An endpoint that is not there and one that the caller may not see look the same to who has no key (401) and to who
has a key of another namespace (403).
"""

import enum
import hashlib
from collections.abc import Iterable

from mizzen.serving.gateway.directory import ApiKey, EndpointKey

KEY_CHARACTERS_MAX = 1024


class Verdict(enum.Enum):
    """What becomes of a caller."""

    ALLOWED = "allowed"
    NO_KEY = "no key"
    UNKNOWN_KEY = "unknown key"
    FORBIDDEN = "forbidden"
    """A valid key, of this namespace, but not for this endpoint."""
    FOREIGN = "foreign"
    """A valid key of another namespace."""


class Keyring:
    """All keys. One key may be in several Secrets; it then opens what any of them says."""

    def __init__(self) -> None:
        self._hash_of: dict[str, str] = {}
        """By the Secret's name."""
        self._keys: dict[str, dict[str, ApiKey]] = {}
        """By hash, then by the Secret's name."""
        self._opens: dict[bytes, dict[tuple[str, str | None], str]] = {}
        """By hash: (namespace, endpoint), the endpoint `None` for all of the namespace; and who that is there."""
        self._tenants: dict[bytes, dict[str, str]] = {}
        """By hash, then by namespace: the Secret's name there, the first by name where there are several."""

    def put(self, name: str, key: ApiKey) -> None:
        """A Secret is there or has changed."""
        self.remove(name)
        self._hash_of[name] = key.hash
        self._keys.setdefault(key.hash, {})[name] = key
        self._index(key.hash)

    def remove(self, name: str) -> None:
        """A Secret is gone: from now on its key opens nothing, unless another Secret has it too."""
        hash_ = self._hash_of.pop(name, None)
        if hash_ is not None:
            del self._keys[hash_][name]
            self._index(hash_)

    def __len__(self) -> int:
        return len(self._hash_of)

    def judge(self, key: str | None, endpoint: EndpointKey) -> tuple[Verdict, str]:
        """What becomes of who shows this key and calls this endpoint, whether or not it exists; and who that is."""
        if not key or len(key) > KEY_CHARACTERS_MAX:
            return Verdict.NO_KEY, ""
        hash_ = hashlib.sha256(key.encode()).digest()
        opens = self._opens.get(hash_)
        if opens is None:
            return Verdict.UNKNOWN_KEY, ""
        tenant = opens.get(endpoint)
        if tenant is None:
            tenant = opens.get((endpoint[0], None))
        if tenant is not None:
            return Verdict.ALLOWED, tenant
        tenant = self._tenants[hash_].get(endpoint[0], "")
        name, colon, _ = endpoint[1].partition(":")
        if colon and (endpoint[0], name) in opens:  # who may ask may ask why
            return Verdict.ALLOWED, tenant
        return (Verdict.FORBIDDEN if tenant else Verdict.FOREIGN), tenant

    def judge_reader(self, key: str | None, namespace: str, views: Iterable[str]) -> Verdict:
        """What becomes of who shows this key and reads these FeatureViews."""
        if not key or len(key) > KEY_CHARACTERS_MAX:
            return Verdict.NO_KEY
        hash_ = hashlib.sha256(key.encode()).hexdigest()
        keys = self._keys.get(hash_)
        if keys is None:
            return Verdict.UNKNOWN_KEY
        scopes = [found.features for found in keys.values() if found.namespace == namespace]
        if all(any(scope is None or view in scope for scope in scopes) for view in views):
            return Verdict.ALLOWED
        return Verdict.FORBIDDEN if scopes else Verdict.FOREIGN

    def _index(self, hash_: str) -> None:
        keys, digest = self._keys[hash_], bytes.fromhex(hash_)
        if not keys:
            del self._keys[hash_], self._opens[digest], self._tenants[digest]
            return
        tenants = self._tenants[digest] = {
            key.namespace: name.rpartition("/")[2] for name, key in sorted(keys.items(), reverse=True)
        }
        self._opens[digest] = {
            (key.namespace, name): tenants[key.namespace]
            for key in keys.values()
            for name in ((None,) if key.endpoints is None else key.endpoints)
        }


def shown_key(authorization: str | None, x_api_key: str | None) -> str | None:
    """The key in `Authorization: Bearer KEY`, else in `X-API-Key`."""
    if authorization is not None and (authorization.startswith("Bearer ") or authorization[:7].lower() == "bearer "):
        return authorization[7:].strip()
    return x_api_key

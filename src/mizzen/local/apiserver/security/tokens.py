"""Bearer tokens of people and programs outside the cluster.

A token is 256 random bits; only its SHA-256 is kept. There are two places for it:

* The admin's, in a file of the home (`server/tokens.json`, 0600): it must work before the store does, and whoever may
  write Secrets must not be able to take it away or to make another.
* Everybody else's, in a Secret of type `mizzen.dev/user-token` in `kube-system`, with data `user`, `groups` (comma
  separated), `hash` and `expires` (RFC 3339, may be empty). `mizzen token create` writes it through the API, and
  deleting the Secret ends the token. Such a Secret cannot make a user or a group whose name begins with `system:`:
  who may write Secrets of that namespace can act as any person, but not as a node, a service account or the
  administrator.

Tokens are found by their hash, so that the time a look-up takes says nothing about any token.
"""

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mizzen.local.apiserver.security.files import read_private, write_private
from mizzen.local.apiserver.types import Json, Reader, User

PREFIX = "mzn_"
"""What every token begins with, so that a leaked one can be recognised."""

SECRET_TYPE = "mizzen.dev/user-token"  # noqa: S105 - the type of a Secret
NAMESPACE = "kube-system"
AUTHENTICATED = "system:authenticated"
MASTERS = "system:masters"
_RESERVED = "system:"


def new_token() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """Hexadecimal SHA-256. No salt and no stretching: a token has all its entropy already."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class UserToken:
    """What is kept of a token."""

    hash: str
    user: str
    groups: tuple[str, ...] = ()
    expires: dt.datetime | None = None
    """None: never."""

    def as_user(self) -> User:
        return User(self.user, (*self.groups, AUTHENTICATED))


def secret(token: str, user: str, groups: tuple[str, ...] = (), *, expires: dt.datetime | None = None) -> Json:
    """The Secret that makes `token` valid for `user`. The token itself is not in it.

    Raises `ValueError` for a name or a group that is reserved for the system, or cannot be written.
    """
    for word in (user, *groups):
        if not word or word.startswith(_RESERVED) or "," in word:
            raise ValueError(f"expected a name that does not begin with {_RESERVED} and holds no comma, got {word!r}")
    values = {
        "user": user,
        "groups": ",".join(groups),
        "hash": token_hash(token),
        "expires": expires.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if expires else "",
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": _secret_name(values["hash"]),
            "namespace": NAMESPACE,
            "labels": {"mizzen.dev/user": _label(user)},
        },
        "type": SECRET_TYPE,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


def _secret_name(hashed: str) -> str:
    """A Secret is found by the hash of the token that it makes valid, so that no index need be kept."""
    return f"user-token-{hashed[:20]}"


def _label(user: str) -> str:
    """A label value for a user's name; other characters than a label may hold are left out."""
    kept = "".join(character if character.isascii() and character.isalnum() else "-" for character in user)
    return kept[:63].strip("-")


def ensure_admin(path: Path, token: str | None) -> str:
    """The admin's token: the one given where the file at `path` knows it, else a new one that the file then knows."""
    known = {entry.hash for entry in _read_file(path)}
    if token is not None and token_hash(token) in known:
        return token
    token = new_token()
    entries = [{"hash": token_hash(token), "user": "admin", "groups": [MASTERS]}]
    write_private(path, msgspec.json.encode(entries))
    return token


def _read_file(path: Path) -> tuple[UserToken, ...]:
    content = read_private(path)
    if not content:
        return ()
    entries: Any = msgspec.json.decode(content)
    return tuple(UserToken(entry["hash"], entry["user"], tuple(entry["groups"])) for entry in entries)


class UserTokens:
    """Looks tokens up: the file is read once, a Secret on each request that shows its token."""

    def __init__(self, path: Path, reader: Reader) -> None:
        self._fixed = {entry.hash: entry for entry in _read_file(path)}
        self._reader = reader

    def find(self, token: str, now: dt.datetime) -> User | None:
        """The user whose token this is; None where it is nobody's, or no longer."""
        hashed = token_hash(token)
        found = self._fixed.get(hashed) or self._in_secret(hashed)
        if found is None or not hmac.compare_digest(found.hash, hashed):
            return None
        if found.expires is not None and found.expires <= now:
            return None
        return found.as_user()

    def _in_secret(self, hashed: str) -> UserToken | None:
        stored = self._reader.get("", "secrets", NAMESPACE, _secret_name(hashed))
        return None if stored is None else _from_secret(stored)

    def __repr__(self) -> str:
        return f"UserTokens({len(self._fixed)} fixed)"


def _from_secret(found: Json) -> UserToken | None:
    """None for any other Secret, and for one that claims what it may not or cannot be read."""
    if found.get("type") != SECRET_TYPE:
        return None
    try:
        data = {
            key: base64.b64decode(value, validate=True).decode() for key, value in (found.get("data") or {}).items()
        }
        expires = dt.datetime.fromisoformat(data["expires"]) if data.get("expires") else None
        entry = UserToken(data["hash"], data["user"], tuple(filter(None, data.get("groups", "").split(","))), expires)
    except (KeyError, ValueError, TypeError, binascii.Error):
        return None
    if expires is not None and expires.tzinfo is None:
        return None
    return None if any(not word or word.startswith(_RESERVED) for word in (entry.user, *entry.groups)) else entry

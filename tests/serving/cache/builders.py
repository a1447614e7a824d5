"""Endpoints with a cache, and answers to keep."""

import hashlib

from tests.serving.builders import tensor

from mizzen.serving.gateway.cache.entry import Entry, entry_of
from mizzen.serving.gateway.directory import Caching

TTL_S = 60.0


def caching(**overrides) -> Caching:
    return Caching(**{"ttl_s": TTL_S, "bytes_max": 1 << 20, **overrides})


def entry(number: int = 1, *, size: int = 100, model: str = "sha256:" + "ab" * 32, expires_s: float = 100.0) -> Entry:
    return entry_of(b"key %d" % number, model, [tensor([number] * size, "UINT8", name="y")], expires_s)


def digest(number: int = 1) -> bytes:
    return hashlib.blake2b(b"%d" % number, digest_size=32).digest()

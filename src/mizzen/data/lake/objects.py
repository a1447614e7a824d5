"""Objects in a store at a URL (`file://…`, `s3://…`, `gs://…`, `az://…`), kept by content digest or by path.

All artifacts go through here: code bundles, models, checkpoints and the data files of tables. A put is atomic: a reader
sees the whole object or none, because a file is renamed into place and S3 shows an object only when it is complete. A
put by digest is idempotent: whoever puts the same bytes again changes nothing, so a writer that was killed simply
starts over. A get by digest hashes what it reads and refuses bytes that are not those asked for: what is damaged on
disk or exchanged in a bucket never becomes a model that answers requests.

Credentials and endpoints of S3 come from the environment, as every AWS tool reads them (`AWS_ACCESS_KEY_ID`,
`AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …); those of Google Cloud from
`GOOGLE_…` and of Azure from `AZURE_…`, likewise.

What is stored where is in docs/architecture.md ("The store"); tables are in `tables.py`, bundles in `code.py`.
"""

import contextlib
import hashlib
import os
import re
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

from mizzen.data.lake.errors import DigestMismatch, ObjectExists, ObjectMissing, StoreUnavailable

DIGEST_PREFIX = "sha256:"
REMOTE_SCHEMES = ("s3", "gs", "az")
_OTHERS: dict[str, Any] = {"gs": GCSStore, "az": AzureStore}
_RETRIES: Any = {"max_retries": 5, "retry_timeout": timedelta(seconds=30)}
"""Of one request, while the store answers 5xx or not at all: with growing pauses, together at most half a minute."""
_REQUEST = re.compile(r"Error performing ([A-Z]+) \S+ in .*? - ")
_PART_BYTES, _PARTS_AT_ONCE = 4 * 1024 * 1024, 8
"""How a large object of a remote store is fetched: one connection to it is slower than the network."""


def digest_of(data: bytes) -> str:
    """`sha256:<hex>` of the bytes."""
    return DIGEST_PREFIX + hashlib.sha256(data).hexdigest()


def hex_of(digest: str) -> str:
    """The hex digits of `sha256:<hex>`.

    Raises `ValueError` where the text is no such digest: a path is never built from anything else.
    """
    digits = digest.removeprefix(DIGEST_PREFIX)
    if len(digits) != 64 or digits == digest or set(digits) - set("0123456789abcdef"):
        raise ValueError(f"expected a digest sha256:<64 hex digits>, got {digest!r}")
    return digits


def _line(error: BaseException) -> str:
    """What a store's error says, without its debug form and the address, which the message names already."""
    return _REQUEST.sub(r"\1: ", str(error).strip().partition("\n")[0])


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that is there."""

    path: str
    bytes: int
    tag: str = ""
    """Changes when the object does: what the store says (ETag), else its size and time."""


class Store:
    """A store at a URL. Paths are relative to the URL and have no leading slash.

    Raises `ObjectMissing` where nothing is at a path and `StoreUnavailable` where the store does not answer, refuses or
    is full; both name the URL.
    """

    def __init__(self, url: str, backend: Any) -> None:
        self.url = url.rstrip("/")
        self._backend = backend

    @classmethod
    def open(cls, url: str) -> Self:
        """Opens the store; the folder of a `file://` URL is made where it is absent.

        Raises `ValueError` for a URL of another scheme.
        """
        parts = urlsplit(url)
        if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path.startswith("/"):
            return cls(url, LocalStore(unquote(parts.path), mkdir=True))
        if parts.scheme == "s3":
            options: Any = {"allow_http": _s3_allow_http()}
            config: Any = {"region": _s3_region()}
            return cls(url, S3Store.from_url(url, config=config, client_options=options, retry_config=_RETRIES))
        if parts.scheme in _OTHERS:
            return cls(url, _OTHERS[parts.scheme].from_url(url, retry_config=_RETRIES))
        raise ValueError(
            "expected a store URL such as file:///var/lib/mizzen/store, s3://bucket/prefix, gs://bucket/prefix or "
            f"az://container/prefix, got {url!r}"
        )

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def url_of(self, path: str) -> str:
        """The URL of an object or of a table's folder."""
        return f"{self.url}/{path}"

    @property
    def table_options(self) -> dict[str, str]:
        """What the Delta library needs to reach this store."""
        if not self.url.startswith("s3://"):
            return {}
        return {"aws_region": _s3_region(), "aws_allow_http": str(_s3_allow_http()).lower()}

    def local_path(self, path: str) -> Path | None:
        """Where the object lies on this machine's disk; `None` where the store is remote."""
        parts = urlsplit(self.url_of(path))
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    @contextlib.contextmanager
    def _errors_of(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise ObjectMissing(f"{self.url_of(path)}: nothing is stored there") from error
        except AlreadyExistsError as error:
            raise ObjectExists(f"{self.url_of(path)}: something is stored there already") from error
        except (BaseError, OSError) as error:
            raise StoreUnavailable(f"{self.url_of(path)}: {_line(error)}") from error

    def put(self, path: str, data: bytes | Path, *, new: bool = False) -> None:
        """Stores the bytes, or the file's, in the place of what was there.

        With `new`, raises `ObjectExists` where something was: of several that put at once, one succeeds.
        """
        try:
            with self._errors_of(path):
                if new:
                    obstore.put(self._backend, path, data, mode="create", use_multipart=False)
                else:
                    obstore.put(self._backend, path, data)
        except ObjectMissing as error:
            raise StoreUnavailable(f"{self.url_of(path)}: the bucket is not there") from error

    def get(self, path: str) -> bytes:
        """The object's bytes."""
        with self._errors_of(path):
            return bytes(obstore.get(self._backend, path).bytes())

    def stream(self, path: str) -> Iterator[bytes]:
        """The object's bytes in pieces of some megabytes; from a remote store, several are fetched at a time."""
        with self._errors_of(path):
            found = obstore.get(self._backend, path)
            if self.url.startswith("file:") or found.meta["size"] <= _PART_BYTES:
                for piece in found.stream(min_chunk_size=_PART_BYTES):
                    yield bytes(piece)
            else:
                yield from self._parts(path, found.meta["size"], found.meta.get("e_tag"))

    def _parts(self, path: str, size: int, tag: str | None) -> Iterator[bytes]:
        """In order. A part of what another object has become meanwhile is refused by the store."""

        def part(start: int) -> bytes:
            options: Any = {"range": (start, min(start + _PART_BYTES, size))} | ({"if_match": tag} if tag else {})
            return bytes(obstore.get(self._backend, path, options=options).bytes())

        coming: deque[Future[bytes]] = deque()
        with ThreadPoolExecutor(_PARTS_AT_ONCE, "part") as pool:
            for start in range(0, size, _PART_BYTES):
                coming.append(pool.submit(part, start))
                if len(coming) == _PARTS_AT_ONCE:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()

    def stat(self, path: str) -> Stored | None:
        """What is at the path; `None` where nothing is."""
        try:
            with self._errors_of(path):
                return _stored(obstore.head(self._backend, path))
        except ObjectMissing:
            return None

    def list(self, prefix: str) -> list[Stored]:
        """Every object under a folder, by path."""
        with self._errors_of(prefix):
            pages = obstore.list(self._backend, prefix)
            return sorted((_stored(meta) for page in pages for meta in page), key=lambda stored: stored.path)

    def delete(self, path: str) -> None:
        """Takes the object away; nothing happens where it is gone already."""
        with contextlib.suppress(ObjectMissing), self._errors_of(path):
            obstore.delete(self._backend, path)

    def put_by_digest(self, folder: str, data: bytes, ending: str) -> str:
        """Stores the bytes at `<folder>/sha256/<hex><ending>` and returns their digest."""
        digest = digest_of(data)
        self.put(path_by_digest(folder, digest, ending), data)
        return digest

    def get_by_digest(self, folder: str, digest: str, ending: str) -> bytes:
        """The bytes with that digest.

        Raises `DigestMismatch` where what is stored there is something else.
        """
        path = path_by_digest(folder, digest, ending)
        data = self.get(path)
        found = digest_of(data)
        if found != digest:
            raise DigestMismatch(self.url_of(path), digest, found)
        return data

    def download(self, path: str, to: Path, *, digest: str | None = None) -> None:
        """Copies the object to a file of this machine, whole or not at all; checks its digest where one is given."""
        hashed = hashlib.sha256()
        handle, name = tempfile.mkstemp(dir=to.parent, prefix=f".{to.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                for piece in self.stream(path):
                    hashed.update(piece)
                    file.write(piece)
            found = DIGEST_PREFIX + hashed.hexdigest()
            if digest is not None and found != digest:
                raise DigestMismatch(self.url_of(path), digest, found)
            Path(name).replace(to)
        finally:
            Path(name).unlink(missing_ok=True)


def _stored(meta: Any) -> Stored:
    return Stored(meta["path"], meta["size"], meta.get("e_tag") or f"{meta['size']} {meta['last_modified']}")


def path_by_digest(folder: str, digest: str, ending: str) -> str:
    """`<folder>/sha256/<hex><ending>`, the place of content-addressed things.

    >>> path_by_digest("models", "sha256:" + "0" * 64, ".onnx")[:20]
    'models/sha256/000000'
    """
    return f"{folder}/sha256/{hex_of(digest)}{ending}"


def _s3_region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def _s3_allow_http() -> bool:
    """A plain HTTP endpoint that was asked for in so many words is one that may be used."""
    return os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")

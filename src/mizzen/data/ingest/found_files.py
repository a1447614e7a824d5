"""Which files a pattern names: in the code bundle, on this machine, or in a bucket of S3, Google Cloud or Azure.

Each pattern must name something. A file is known by its name and by what changes when it does: its size and time on a
disk, its tag in a bucket, its content in a bundle. Objects of a bucket are fetched when they are to be read.
"""

import fnmatch
import glob
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from mizzen.data.lake.objects import REMOTE_SCHEMES, Store
from mizzen.data.pod import Failure

_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Found:
    """One file as the user knows it."""

    name: str
    mark: str
    """Changes when the file does."""
    path: Path | None = None
    """Where it lies on this machine; `None` for an object of a bucket that is not fetched yet."""
    bucket: str = ""
    key: str = ""

    def fetched(self, folder: Path) -> "Found":
        """The file on this machine: an object is copied into the folder, whole."""
        if self.path is not None:
            return self
        path = folder / PurePosixPath(self.key).name
        path.parent.mkdir(parents=True, exist_ok=True)
        Store.open(self.bucket).download(self.key, path)
        return Found(self.name, self.mark, path)

    @property
    def here(self) -> Path:
        """Where it lies on this machine, once fetched."""
        assert self.path is not None, "fetched before it is read"
        return self.path


def find(patterns: Sequence[str], folder: Path | None) -> list[Found]:
    """The files that the patterns name, in the order of the patterns and then of the names, each once.

    Relative patterns are of `folder`, the unpacked bundle. Raises `Failure` (`SourceFailed`) where one names nothing.
    """
    found: dict[str, Found] = {}
    for pattern in patterns:
        for file in _resolved(pattern, folder):
            found.setdefault(file.name, file)
    return [*found.values()]


def _resolved(pattern: str, folder: Path | None) -> list[Found]:
    parts = urlsplit(pattern)
    if parts.scheme in REMOTE_SCHEMES:
        return _of_bucket(pattern)
    if parts.scheme == "file":
        names = sorted(_local(unquote(parts.path), None))
        return _expect_some([Found(name, _stamp(Path(name)), Path(name)) for name in names], pattern)
    if parts.scheme or pattern.startswith("/") or ".." in PurePosixPath(pattern).parts:
        known = ", ".join(f"{scheme}://…" for scheme in ("file", *REMOTE_SCHEMES))
        raise Failure("SourceFailed", f"{pattern}: expected a path inside the code bundle, or {known}")
    if folder is None:
        raise Failure("SourceFailed", f"{pattern}: is inside a code bundle, and the dataset has none (spec.code)")
    names = sorted(_local(pattern, folder))
    return _expect_some([Found(name, _content(folder / name), folder / name) for name in names], pattern)


def _local(pattern: str, folder: Path | None) -> list[str]:
    names = glob.glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207 - pathlib's has no root to be relative to
    top = folder if folder is not None else Path("/")
    return [name for name in names if (top / name).is_file()]


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_bucket(pattern: str) -> list[Found]:
    parts = urlsplit(pattern)
    bucket, key = f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/")
    wild = _WILD.search(key)
    store = Store.open(bucket)
    if wild is None:
        only = store.stat(key)
        objects = [only] if only is not None else []
    else:
        known = key[: wild.start()].rpartition("/")[0]
        objects = [stored for stored in store.list(known) if glob_matches(key, stored.path)]
    found = [
        Found(f"{bucket}/{stored.path}", stored.tag, bucket=bucket, key=stored.path)
        for stored in sorted(objects, key=lambda stored: stored.path)
    ]
    return _expect_some(found, pattern)


def _expect_some(found: list[Found], pattern: str) -> list[Found]:
    if not found:
        what = "matches no file" if _WILD.search(pattern) else "there is no such file"
        raise Failure("SourceFailed", f"{pattern}: {what}")
    return found


def glob_matches(pattern: str, name: str) -> bool:
    """Whether a path matches, `*` within one folder and `**` across folders, as for local files.

    >>> [glob_matches(pattern, "a/b/c.csv") for pattern in ("a/*.csv", "a/*/*.csv", "a/**/*.csv", "**/b/**/c.csv")]
    [False, True, True, True]
    """
    return _matches(pattern.split("/"), name.split("/"))


def _matches(patterns: list[str], names: list[str]) -> bool:
    if not patterns:
        return not names
    if patterns[0] == "**":
        return any(_matches(patterns[1:], names[skipped:]) for skipped in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], patterns[0]) and _matches(patterns[1:], names[1:])

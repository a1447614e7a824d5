"""Code bundles: a project folder as one archive, stored once, named by what is in it.

A bundle holds the files that git would not ignore: what `git ls-files` says where the folder is in a checkout, and the
rules of its `.gitignore` files where it is not. Version control, virtual environments, caches and the Mizzen home are
left out in any case. The same files give the same digest on any machine: entries are sorted, times and owners are
zeroed, of the mode only the executable bit is kept, and the digest is of the tar archive *before* compression, so that
a newer zlib does not make a new bundle (and with it a new training run) of old code.

Symbolic links are kept where they stay inside the folder and refused where they leave it: a bundle means the same
wherever it is unpacked. Unpacking verifies the digest first, then writes only files, folders and such links, into a
fresh folder that is renamed into place when it is complete.
"""

import gzip
import io
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pathspec

from mizzen.data.lake.errors import CodeError, DigestMismatch
from mizzen.data.lake.objects import Store, digest_of, path_by_digest

BUNDLE_BYTES_MAX = 64 * 1024 * 1024
"""Code is small. What is larger is data that was forgotten in the folder, and belongs in a Dataset."""
ALWAYS_IGNORED = frozenset(
    {".git", ".hg", ".svn", "__pycache__", ".venv", "venv", ".mizzen", "node_modules", ".ipynb_checkpoints",
     ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".tox", ".DS_Store"}
)  # fmt: skip
_FOLDER, _ENDING = "code", ".tar.gz"


class Bundle(NamedTuple):
    """An archive and its name."""

    digest: str
    """Of the tar archive before compression."""
    data: bytes
    """The archive, gzip-compressed."""


def code_path(digest: str) -> str:
    """Where the bundle lies in the store."""
    return path_by_digest(_FOLDER, digest, _ENDING)


def bundle(folder: Path, *, bytes_max: int = BUNDLE_BYTES_MAX) -> Bundle:
    """The folder's files as one archive.

    Raises `CodeError` where the folder is absent or empty, holds more than `bytes_max`, or has a link that leaves it.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise CodeError(f"{folder}: expected a folder with code, found none")
    paths = sorted(set(_bundled_paths(folder)))
    if not paths:
        raise CodeError(f"{folder}: expected files for a code bundle, found none that git does not ignore")
    _expect_size(folder, paths, bytes_max)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in paths:
            _add(tar, folder, path)
    plain = archive.getvalue()
    return Bundle(digest_of(plain), gzip.compress(plain, compresslevel=6, mtime=0))


def put_bundle(store: Store, made: Bundle) -> str:
    """Stores the bundle unless it is there already, and returns its digest."""
    if store.stat(code_path(made.digest)) is None:
        store.put(code_path(made.digest), made.data)
    return made.digest


def unpack(store: Store, digest: str, to: Path) -> Path:
    """The bundle's files in the folder `to`, which must not exist yet or be empty; returns it.

    Raises `DigestMismatch` where the stored archive is not the one asked for, `CodeError` where it is none.
    """
    where = store.url_of(code_path(digest))
    compressed = store.get(code_path(digest))
    try:
        inflate = zlib.decompressobj(wbits=31)
        plain = inflate.decompress(compressed, 2 * BUNDLE_BYTES_MAX)
    except zlib.error as error:
        raise DigestMismatch(where, digest, f"no gzip archive ({error})") from error
    found = digest_of(plain)
    if found != digest or not inflate.eof:
        raise DigestMismatch(where, digest, found)
    to.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name}."))
    try:
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as tar:
            for member in tar:
                _extract(tar, member, fresh)
        fresh.replace(to)
    except (tarfile.TarError, OSError) as error:
        raise CodeError(f"{where}: cannot be unpacked to {to}: {error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return to


def _bundled_paths(folder: Path) -> Iterator[PurePosixPath]:
    listed = _listed_by_git(folder)
    for path in listed if listed is not None else _walked(folder, folder, ()):
        if not ALWAYS_IGNORED.intersection(path.parts) and path.suffix != ".pyc":
            whole = folder / path
            if whole.is_dir() and not whole.is_symlink():  # a submodule, or a checkout inside this one
                yield from (path / inner for inner in _bundled_paths(whole))
            elif whole.is_symlink() or whole.is_file():  # else: listed but deleted, or a socket, pipe or device
                yield path


def _listed_by_git(folder: Path) -> list[PurePosixPath] | None:
    """What git does not ignore; `None` where there is no git, no checkout, or it ignores the folder itself."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "."]
    try:
        run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    if run.returncode != 0 or not run.stdout:
        return None
    return [PurePosixPath(os.fsdecode(name)) for name in run.stdout.split(b"\0") if name]


_Rules = tuple[tuple[Path, pathspec.GitIgnoreSpec], ...]
"""The `.gitignore` files that hold for a folder, from the outermost, each with the folder it lies in."""


def _walked(top: Path, folder: Path, rules: _Rules) -> Iterator[PurePosixPath]:
    ignore_file = folder / ".gitignore"
    if ignore_file.is_file():
        spec = pathspec.GitIgnoreSpec.from_lines(ignore_file.read_text(errors="replace").splitlines())
        rules = (*rules, (folder, spec))
    for entry in sorted(os.scandir(folder), key=lambda found: found.name):
        path = Path(entry.path)
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name in ALWAYS_IGNORED or _is_ignored(path, is_folder, rules):
            continue
        if is_folder:
            yield from _walked(top, path, rules)
        else:
            yield PurePosixPath(path.relative_to(top).as_posix())


def _is_ignored(path: Path, is_folder: bool, rules: _Rules) -> bool:
    """The innermost file with an opinion decides, as in git."""
    for folder, spec in reversed(rules):
        name = path.relative_to(folder).as_posix() + ("/" if is_folder else "")
        opinion = spec.check_file(name).include
        if opinion is not None:
            return opinion
    return False


def _expect_size(folder: Path, paths: list[PurePosixPath], bytes_max: int) -> None:
    sizes = [((folder / path).lstat().st_size, path.as_posix()) for path in paths]
    total = sum(size for size, _ in sizes)
    if total > bytes_max:
        largest = ", ".join(f"{name} ({size / 1e6:.1f} MB)" for size, name in sorted(sizes, reverse=True)[:3])
        raise CodeError(
            f"{folder}: expected a code bundle of at most {bytes_max / 1e6:.0f} MB, found {total / 1e6:.0f} MB in "
            f"{len(paths)} files; largest: {largest}. Name what is not code in .gitignore"
        )


def _add(tar: tarfile.TarFile, folder: Path, path: PurePosixPath) -> None:
    whole = folder / path
    member = tarfile.TarInfo(path.as_posix())
    if whole.is_symlink():
        target = whole.readlink()
        inside = os.path.normpath(whole.parent / target)
        if target.is_absolute() or not Path(inside).is_relative_to(folder):
            raise CodeError(f"{whole}: expected a link that stays inside {folder}, found one to {target}")
        member.type, member.linkname = tarfile.SYMTYPE, target.as_posix()
        tar.addfile(member)
        return
    try:
        data = whole.read_bytes()
    except OSError as error:
        raise CodeError(f"{whole}: cannot be read: {error.strerror}") from error
    member.size = len(data)
    member.mode = 0o755 if whole.stat().st_mode & stat.S_IXUSR else 0o644
    tar.addfile(member, io.BytesIO(data))


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, to: Path) -> None:
    """One member, if it is of a kind that `bundle` writes and stays inside; a stored archive may be anyone's."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise CodeError(f"{member.name}: the archive leaves its folder")
    whole = to / path
    if not whole.parent.resolve().is_relative_to(to.resolve()):
        raise CodeError(f"{member.name}: the archive leaves its folder through a link")
    whole.parent.mkdir(parents=True, exist_ok=True)
    if member.issym():
        if not Path(os.path.normpath(whole.parent / member.linkname)).is_relative_to(to):
            raise CodeError(f"{member.name}: the archive has a link to {member.linkname}, which leaves its folder")
        whole.symlink_to(member.linkname)
    elif member.isfile():
        content = tar.extractfile(member)
        assert content is not None, "a regular member has content"
        with whole.open("xb") as file:
            shutil.copyfileobj(content, file)
        whole.chmod(member.mode & 0o755)
    elif not member.isdir():
        raise CodeError(f"{member.name}: expected files and links in a code bundle, found another kind of entry")

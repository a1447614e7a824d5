"""Volumes on disk, and where a container finds them.

A set of files is replaced as the kubelet replaces it, so that a reader sees all of the old or all of the new: files lie
in a folder named by the time, `..data` is a link to it that one rename moves, and what the Pod sees are links through
`..data`. A volume is mounted by a link at `$MIZZEN_ROOTFS` + `mountPath`: there is no privilege needed, and no
protection gained, so `readOnly` binds only through the files' modes.
"""

import contextlib
import hashlib
import os
import shutil
from pathlib import Path, PurePosixPath

from mizzen.local.node.podspec import Json
from mizzen.local.node.volumes import MountError, Payload

_DATA = "..data"


def write_files(folder: Path, files: Payload) -> bool:
    """Makes a volume hold just these files, all at once. Returns whether anything changed."""
    folder.mkdir(parents=True, exist_ok=True)
    version = f"..{_digest(files)}"
    old = _current(folder)
    if old == version:
        return False
    fresh = folder / version
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    for name, file in files.items():
        path = fresh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)
        path.chmod(file.mode)
    pointer = folder / f"{_DATA}_tmp"
    pointer.unlink(missing_ok=True)
    pointer.symlink_to(version)
    pointer.replace(folder / _DATA)
    _link_names(folder, {PurePosixPath(name).parts[0] for name in files})
    if old is not None:
        shutil.rmtree(folder / old, ignore_errors=True)
    return True


def _digest(files: Payload) -> str:
    """Names a version by what is in it, so that the same content is never written twice."""
    found = hashlib.sha256()
    for name, file in sorted(files.items()):
        for part in (name.encode(), oct(file.mode).encode(), file.data):
            found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()[:32]


def _current(folder: Path) -> str | None:
    try:
        return str((folder / _DATA).readlink())
    except OSError:
        return None


def _link_names(folder: Path, names: set[str]) -> None:
    for name in names:
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(f"{_DATA}/{name}")
    for path in folder.iterdir():
        ours = path.is_symlink() and str(path.readlink()).startswith(f"{_DATA}/")
        if ours and path.name not in names:
            path.unlink()


def make_folder(volume: Json, folder: Path) -> Path:
    """The folder of an emptyDir or hostPath volume. Raises `MountError`."""
    host = volume.get("hostPath")
    if host is None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
        return folder
    path = Path(host["path"])
    kind = host.get("type") or ""
    try:
        if kind == "DirectoryOrCreate":
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        elif kind == "FileOrCreate":
            path.touch(mode=0o644)
    except OSError as error:
        raise MountError(volume["name"], f"hostPath {path}: {error.strerror}") from error
    expected = {
        "Directory": path.is_dir, "DirectoryOrCreate": path.is_dir, "File": path.is_file, "FileOrCreate": path.is_file,
        "Socket": path.is_socket, "CharDevice": path.is_char_device, "BlockDevice": path.is_block_device,
    }.get(kind)  # fmt: skip
    if expected is not None and not expected():
        raise MountError(volume["name"], f"hostPath type check failed: {path} is not a {kind}")
    return path


def mount(rootfs: Path, mount_path: str, source: Path, sub_path: str = "") -> None:
    """Makes `source`, or what is at `sub_path` in it, be found at the mount path. Raises `OSError`, `ValueError`."""
    target = inside(rootfs, mount_path)
    if target == rootfs:
        raise ValueError("mountPath '/': expected a path below the root")
    if sub_path:
        pure = PurePosixPath(sub_path)
        if pure.is_absolute() or ".." in pure.parts:
            raise ValueError(f"subPath {sub_path!r}: expected a relative path without '..'")
        source /= pure
        if not source.exists():
            source.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink():
        target.unlink()
    elif target.is_dir():
        with contextlib.suppress(OSError):
            target.rmdir()  # made as the parent of another mount: only empty folders give way
    target.symlink_to(source)


def inside(rootfs: Path, path: str) -> Path:
    """Where an absolute path of a container is found."""
    return rootfs / os.path.normpath(f"/{path}").lstrip("/")

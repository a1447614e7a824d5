"""Files of the home that must not be read by others, and must be whole after a crash."""

import os
import secrets
from pathlib import Path


def write_private(path: Path, content: bytes) -> None:
    """Writes `path` with mode 0600 so that at every moment it holds either the old content or the new."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)  # it is still there only where the write has failed
    _sync_folder(path.parent)


def read_private(path: Path) -> bytes | None:
    """The content, or None where there is no such file. A file that others may read is closed to them first."""
    try:
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

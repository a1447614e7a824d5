"""Virtual environments for models that bring their own packages: built once for each lock file, kept on the node.

An environment is named by a digest of its requirements, the interpreter and this module's way of building
(`<cache>/environments/<key>`). It holds what the requirements say and nothing else of the host, but for the few
packages that a worker itself stands on, which come last on the import path: where the requirements name another version
of one of them, that is used.

Building is safe against everything that happens on a node. A file lock (`<key>.lock`) is held while it is built, so
that of many workers that start together one builds and the others wait; the lock goes with the processes that hold it
(the builder and what it started), so that none is left behind by a `kill -9`. An environment is complete when its mark
is there, which is written last; what has none is thrown away and built anew. Who uses an environment holds the lock
shared, also across `exec`, and `sweep` takes away only what nobody holds and nobody has used for a while.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import mizzen

BUILT_AS = 1
"""Part of every key: raised when environments are built in another way."""
BRIDGED = ("msgspec", "numpy", "uvloop")
"""What a worker needs beside mizzen; absent ones are passed over (uvloop is a matter of speed)."""
UNUSED_S_MAX = 30 * 24 * 3600.0
_MARK, _BRIDGE = "complete", "bridge"
_SAID_LINES = 6


class EnvironmentFailed(Exception):
    """The environment cannot be built; the message holds the end of what the installer said. Trying again may help,
    where the reason was the network.
    """


@dataclass(frozen=True, slots=True)
class Environment:
    """One that is complete, and held by this process until `release`."""

    folder: Path
    lock: int
    """The open lock file; inherited by what this process becomes."""

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def release(self) -> None:
        os.close(self.lock)


def key_of(requirements: bytes) -> str:
    """The environment's name."""
    interpreter = (sys.implementation.cache_tag, platform.python_version(), sysconfig.get_platform(), sys.prefix)
    parts = (str(BUILT_AS), *map(str, interpreter), _mizzen_folder().as_posix())
    return hashlib.sha256("\0".join(parts).encode() + b"\0" + requirements).hexdigest()[:20]


def ensure(requirements: bytes, cache: Path) -> Environment:
    """The environment of these requirements, built if it is not there. Raises `EnvironmentFailed` and `OSError`."""
    folder = cache / "environments" / key_of(requirements)
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            fcntl.flock(lock, fcntl.LOCK_SH)
            if (folder / _MARK).exists():
                (folder / _MARK).touch()
                os.set_inheritable(lock, True)
                return Environment(folder, lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / _MARK).exists():
                _build(folder, requirements, cache, lock)
            # From here to the shared lock another may sweep it away: so look again.
    except BaseException:
        os.close(lock)
        raise


def sweep(cache: Path, *, unused_s_max: float = UNUSED_S_MAX, now_s: float | None = None) -> list[str]:
    """Takes away environments that nobody holds and that were last taken up longer ago than that; returns which."""
    now_s = time.time() if now_s is None else now_s
    gone = []
    for path in sorted((cache / "environments").glob("*.lock")):
        with _held(path) as held:
            folder = path.with_suffix("")
            mark = folder / _MARK
            if held and folder.exists() and not (mark.exists() and mark.stat().st_mtime > now_s - unused_s_max):
                mark.unlink(missing_ok=True)  # first: what is half gone is not complete
                shutil.rmtree(folder, ignore_errors=True)
                gone.append(folder.name)
    return gone


@contextlib.contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Whether the lock could be had for this process alone, without waiting."""
    lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(lock)


def _build(folder: Path, requirements: bytes, cache: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # what one that was killed left
    _run([sys.executable, "-I", "-m", "venv", "--without-pip", str(folder)], folder.parent, lock)
    _make_bridge(folder)
    wanted = folder / "requirements.txt"
    wanted.write_bytes(requirements)
    python = folder / "bin" / "python"
    if importlib.util.find_spec("pip") is not None:
        pip = [sys.executable, "-I", "-m", "pip", "--python", str(python)]
    else:
        _run([str(python), "-I", "-m", "ensurepip"], folder, lock)
        pip = [str(python), "-I", "-m", "pip"]
    options = ["--no-input", "--disable-pip-version-check", "--no-warn-script-location", "-q"]
    command = [*pip, "install", *options, "--requirement", str(wanted)]
    _run(command, folder, lock, {"PIP_CACHE_DIR": str(cache / "pip")})
    part = folder / f"{_MARK}.part"
    part.write_text("")
    os.sync()  # the mark must not be on the disk before what it vouches for
    part.replace(folder / _MARK)


def _run(command: list[str], folder: Path, lock: int, more: dict[str, str] | None = None) -> None:
    """Runs one step. It holds the lock too: where this process is killed, the next builder waits for what it left."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    run = subprocess.run(
        command, cwd=folder, env=environment | (more or {}), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False, pass_fds=(lock,),
    )  # fmt: skip
    if run.returncode != 0:
        lines = [line for line in run.stdout.strip().splitlines() if not line.startswith("WARNING: ")]
        said = " / ".join(line.strip() for line in lines[-_SAID_LINES:])
        raise EnvironmentFailed(f"the model's environment cannot be built: {said or f'exit code {run.returncode}'}")


def _make_bridge(folder: Path) -> None:
    """What a worker stands on, linked, and last on the environment's import path."""
    bridge = folder / _BRIDGE
    bridge.mkdir()
    (bridge / "mizzen").symlink_to(_mizzen_folder())
    for name in BRIDGED:
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        tops = {file.parts[0] for file in distribution.files or ()}
        for top in sorted(top for top in tops if not top.startswith("..") and not top.endswith(".dist-info")):
            found = Path(str(distribution.locate_file(top))).resolve()
            if found.exists() and not (bridge / top).is_symlink():
                (bridge / top).symlink_to(found)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    (packages / "mizzen-bridge.pth").write_text(f"{bridge}\n")


def _mizzen_folder() -> Path:
    return Path(mizzen.__file__).resolve().parent

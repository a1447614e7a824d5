"""A real PostgreSQL server for tests, in a folder of its own, reached by a Unix socket."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

VERSIONS = Path("/usr/lib/postgresql")


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`; `None` where PostgreSQL is not installed."""
    found = sorted(VERSIONS.glob("*/bin/initdb")) if VERSIONS.is_dir() else []
    if found:
        return found[-1].parent
    path = shutil.which("initdb")
    return Path(path).parent if path else None


def _run(command: list[str]) -> None:
    """As the user that the server runs as: PostgreSQL refuses to run as root."""
    other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    subprocess.run([*other, *command], check=True, stdout=subprocess.DEVNULL, cwd="/")


@contextlib.contextmanager
def server() -> Iterator[str]:
    """A running server's URL, with the database `postgres`."""
    folder = programs()
    assert folder is not None, "installed"
    with tempfile.TemporaryDirectory(prefix="mz-pg-") as top:
        data = Path(top) / "data"
        data.mkdir()
        if os.geteuid() == 0:
            shutil.chown(top, "postgres")
            shutil.chown(data, "postgres")
        _run([str(folder / "initdb"), "-D", str(data), "-U", "mizzen", "-A", "trust", "-N"])
        options = f"-c listen_addresses= -c unix_socket_directories={top} -c fsync=off"
        control = [str(folder / "pg_ctl"), "-D", str(data), "-w", "-l", str(data / "log")]
        _run([*control, "-o", options, "start"])
        try:
            yield f"postgresql://mizzen@/postgres?host={top}"
        finally:
            _run([*control, "-m", "immediate", "stop"])

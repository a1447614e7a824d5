"""The home: the folder where one machine's state lives, and who may use it.

    home.json        format version of the folder; a newer one is refused, for nothing is to be misread
    kubeconfig       how clients reach the control plane (0600)
    server/          the API server: SQLite, certificate authority
    store/           artifacts and tables
    online/          features, for reads in microseconds
    node/            Pod work folders and their logs
    run/             lock, process records, sockets
    predictions/     what is logged of requests and is not in the store yet
    logs/            what the control process and the gateway print

One supervisor uses a home at a time: it holds a lock on `run/lock`, which the kernel frees when it dies.
"""

import fcntl
import hashlib
import json
import os
import re
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

FORMAT = 1
SOCKET_PATH_MAX = 100
"""A Unix socket's path may be 104 bytes on macOS and 108 on Linux."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder in it is this user's alone

_SERVER = re.compile(r"(?m)^(\s*server: ).*$")
"""In the kubeconfig that the API server writes; a parser of YAML would cost each start its import."""


class HomeError(Exception):
    """The home cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one home. Making the value touches nothing; `prepare` makes the folders."""

    root: Path

    @classmethod
    def from_environment(cls, given: Path | None = None) -> Self:
        """`given`, else `MIZZEN_HOME`, else `./.mizzen`."""
        return cls((given or Path(os.environ.get("MIZZEN_HOME") or ".mizzen")).absolute())

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def store_url(self) -> str:
        return self.store.as_uri()

    @property
    def online_url(self) -> str:
        """The online store of features."""
        return "lmdb://" + (self.root / "online").as_uri().removeprefix("file://")

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def scaling_socket(self) -> Path:
        """Where the scaling controller listens to the gateway; a socket may have a short path only."""
        name = hashlib.sha256(str(self.root).encode()).hexdigest()[:12]
        local = self.run / "scaling.sock"
        return local if len(str(local)) <= SOCKET_PATH_MAX else Path(tempfile.gettempdir()) / f"mizzen-{name}.sock"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def predictions(self) -> Path:
        """What is logged of requests and is not in the store yet."""
        return self.root / "predictions"

    @property
    def rings(self) -> Path:
        """Where gateways log requests: in memory where there is such a folder, so that no request waits for a disk."""
        if not os.access(SHARED_MEMORY, os.W_OK):
            return self.run / "rings"
        name = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        return SHARED_MEMORY / f"mizzen-{os.getuid()}-{name}"

    def prepare(self) -> None:
        """Makes the folders where they are missing.

        Raises `HomeError` where the home is of a newer format, or is no folder that this user may write.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.store, self.run, self.logs):
                folder.mkdir(mode=0o700, exist_ok=True)
            self.rings.mkdir(mode=0o700, exist_ok=True)
            self._check_rings()
            self._check_format()
        except OSError as error:
            raise HomeError(f"{self.root}: cannot be used as a home: {error.strerror}. Set MIZZEN_HOME.") from error

    def point_kubeconfig(self, server: str) -> None:
        """The kubeconfig, where there is one from before, names this server: the parts that start beside the control
        plane read it before it does, and would ask where that was the last time.
        """
        try:
            found = self.kubeconfig.read_text()
        except FileNotFoundError:
            return
        pointed = _SERVER.sub(rf"\g<1>{server}", found)
        if pointed != found:
            _write_private(self.kubeconfig, pointed)

    def _check_rings(self) -> None:
        """Shared memory is everybody's: a folder that another user made there is not written to."""
        found = self.rings.stat(follow_symlinks=False)
        if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
            raise HomeError(
                f"{self.rings}: expected a folder of yours alone, found one that others may use. Remove it."
            )

    def _check_format(self) -> None:
        marker = self.root / "home.json"
        try:
            found = json.loads(marker.read_bytes()).get("format")
        except FileNotFoundError:
            write_atomically(marker, {"format": FORMAT})
            return
        except (ValueError, AttributeError) as error:
            raise HomeError(f"{marker}: expected the home's format as JSON, found something else: {error}.") from error
        if not isinstance(found, int) or found > FORMAT:
            raise HomeError(
                f"{self.root}: this home has format {found}, and this Mizzen knows formats up to {FORMAT}. "
                "Use the newer Mizzen that made it, or another MIZZEN_HOME."
            )


class HomeLock:
    """Held by the one supervisor of a home.

    The file stays when the lock is gone; only the kernel's lock counts, so a killed holder leaves nothing to clean up.
    """

    def __init__(self, home: Home) -> None:
        self._path = home.run / "lock"
        self._fd: int | None = None

    def acquire(self) -> None:
        """Raises `HomeError` where another process holds it."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "another process"
            os.close(fd)
            raise HomeError(
                f"{self._path.parent.parent}: Mizzen is already up on this home (process {holder}). "
                "`mizzen status` shows it, `mizzen down` ends it; another MIZZEN_HOME and --port give a second one."
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        self._fd = fd

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def write_atomically(path: Path, document: dict[str, Any]) -> None:
    """Writes JSON so that a reader sees the old document or the new one, whole, and only this user can read it."""
    _write_private(path, json.dumps(document))


def _write_private(path: Path, text: str) -> None:
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(fd, "w") as file:
        file.write(text)
    Path(temporary).replace(path)

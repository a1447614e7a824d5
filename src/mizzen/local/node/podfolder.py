"""Where a Pod lives on this machine. Everything that must outlive the node is here, so that it can be taken back.

    <home>/node/pods/<uid>/          private to this user
        first.json                   when the node first saw the Pod
        pod.json                     the Pod as last seen
        facts.json                   the ports chosen for it, and its run folder
        containers/<name>/<attempt>  see `attempts`
        rootfs/<name>/               what a container finds under $MIZZEN_ROOTFS; new at each attempt
        volumes/<name>/
    <run>/<short>/                   $MIZZEN_RUN_DIR, and the containers' TMPDIRs in it

Unix sockets have paths of at most 103 bytes, and programs make them in TMPDIR as well (Python's multiprocessing adds 33
bytes), so the run folder has a short name, and lies under the system's folder for temporary files where the home's own
path is long.
"""

import contextlib
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mizzen.local.node import moments
from mizzen.local.node.attempts import Attempt, attempts
from mizzen.local.node.moments import Moment
from mizzen.local.node.podspec import Json

_RUN_BASE_MAX = 56
"""What is left of a socket's path after `/<short>/t0` and what multiprocessing adds."""
_SHORT_TEMPORARY = Path("/tmp")  # noqa: S108 - a folder in it is made private, and checked to be


class PodFolder:
    """The folder of one Pod. Reads and writes files; knows nothing of the API server."""

    def __init__(self, home: Path, uid: str) -> None:
        self.home, self.uid = home, uid
        self.root = pods_folder(home) / uid

    def __repr__(self) -> str:
        return f"PodFolder({self.uid})"

    def open(self, pod: Json, started: Moment, present: Moment) -> Moment | None:
        """Makes the folder, and writes the Pod down. Returns when it was first seen, where it was here before: by the
        clock of this boot, which no change of the wall clock has touched.
        """
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(self.root / "pod.json", json.dumps(pod))
        record = self.root / "first.json"
        try:
            first = json.loads(record.read_text())
        except (OSError, ValueError):
            _replace(record, json.dumps({"wall": started.wall, "steady": started.steady, "boot": moments.boot_id()}))
            return None
        return moments.recall(Moment(first["wall"], first["steady"]), first["boot"], present)

    def load(self) -> dict[str, Any] | None:
        """The Pod as last seen; `None` where the node crashed before it was written."""
        try:
            pod: dict[str, Any] = json.loads((self.root / "pod.json").read_text())
        except (OSError, ValueError):
            return None
        return pod

    # -- facts

    def ports(self) -> dict[str, int] | None:
        """The ports chosen; `None` before that."""
        found: dict[str, int] | None = self._facts().get("ports")
        return found

    def run_dir(self) -> Path | None:
        found = self._facts().get("run_dir")
        return None if found is None else Path(found)

    def decide(self, ports: dict[str, int]) -> None:
        """Writes down the ports, and makes the run folder. Raises `OSError`."""
        run = run_base(self.home) / hashlib.sha256(self.uid.encode()).hexdigest()[:10]
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(self.root / "facts.json", json.dumps({"ports": ports, "run_dir": str(run)}))

    def _facts(self) -> dict[str, Any]:
        try:
            facts: dict[str, Any] = json.loads((self.root / "facts.json").read_text())
        except (OSError, ValueError):
            return {}
        return facts

    # -- places

    def volume(self, name: str) -> Path:
        return self.root / "volumes" / name

    def rootfs(self, container: str) -> Path:
        return self.root / "rootfs" / container

    def temporary(self, index: int) -> Path:
        """TMPDIR of the container of that number."""
        run = self.run_dir()
        if run is None:
            raise FileNotFoundError(f"{self.root / 'facts.json'}: the Pod's run folder was never chosen")
        return run / f"t{index}"

    def container(self, name: str) -> Path:
        return self.root / "containers" / name

    def attempts(self) -> Iterator[Attempt]:
        """All attempts at all containers that are still known."""
        with contextlib.suppress(FileNotFoundError):
            for container in sorted((self.root / "containers").iterdir()):
                yield from attempts(container)

    # -- ending

    def remove_volumes(self) -> None:
        """Takes away what a Pod that has ended needs no more: secrets above all. Logs stay."""
        for part in ("volumes", "rootfs"):
            shutil.rmtree(self.root / part, ignore_errors=True)
        self._remove_run_dir()

    def remove(self) -> None:
        self._remove_run_dir()
        shutil.rmtree(self.root, ignore_errors=True)

    def _remove_run_dir(self) -> None:
        run = self.run_dir()
        if run is not None:
            shutil.rmtree(run, ignore_errors=True)


def pods_folder(home: Path) -> Path:
    return home / "node" / "pods"


def cache_folder(home: Path) -> Path:
    """What Pods keep for each other: models by digest, Python environments by lock file. Made by whoever needs it."""
    return home / "node" / "cache"


def pod_folders(home: Path) -> list[PodFolder]:
    """The Pods that have a folder here."""
    try:
        return [PodFolder(home, path.name) for path in sorted(pods_folder(home).iterdir()) if path.is_dir()]
    except FileNotFoundError:
        return []


def run_base(home: Path) -> Path:
    """Where run folders are: in the home, or in a private temporary folder of this home where its path is too long."""
    base = home / "run"
    if len(os.fsencode(base)) <= _RUN_BASE_MAX:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        return base
    mine = _SHORT_TEMPORARY / f"mizzen-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        mine.mkdir(mode=0o700)
    found = mine.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{mine}: expected a folder that only this user may enter; remove it and try again")
    base = mine / hashlib.sha256(os.fsencode(home)).hexdigest()[:8]
    base.mkdir(mode=0o700, exist_ok=True)
    return base


def _replace(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.chmod(0o600)
    part.replace(path)

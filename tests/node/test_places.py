"""Folders on this machine: private, short where they must be, and what happens when there is no room in them."""

import asyncio
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.node.builders import container, moment, pod, pod_object
from tests.node.running import python

from mizzen.local.node import podfolder
from mizzen.local.node.podfolder import PodFolder, run_base
from mizzen.local.node.unsupported import image_note, unsupported

UID = "00000000-0000-0000-0000-000000000001"


def test_a_pods_folder_is_private_and_remembers(tmp_path: Path) -> None:
    folder = PodFolder(tmp_path, UID)
    assert folder.open(pod_object(), moment(5), moment(5)) is None
    folder.decide({"http": 20001})
    again = PodFolder(tmp_path, UID)
    assert again.open(pod_object(), moment(1), moment(9)) == moment(5)
    assert again.ports() == {"http": 20001}
    assert again.load() == pod_object()
    run = again.run_dir()
    assert run is not None
    for private in (folder.root, run):
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
    again.remove()
    assert not run.exists()
    assert not folder.root.exists()


def test_a_long_home_gets_a_short_run_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket's path holds 103 bytes: below a deep home there would be no room for its name."""
    monkeypatch.setattr(podfolder, "_SHORT_TEMPORARY", tmp_path)
    homes = [tmp_path / ("deep" * 20) / name for name in "ab"]
    bases = [run_base(home) for home in homes]
    assert len(set(bases)) == 2
    for base in bases:
        assert base.parent == tmp_path / f"mizzen-{os.getuid()}"
        assert stat.S_IMODE(base.parent.stat().st_mode) == 0o700
    assert run_base(homes[0]) == bases[0]


def test_a_run_folder_that_others_may_enter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes the folder in /tmp first does not get our sockets."""
    monkeypatch.setattr(podfolder, "_SHORT_TEMPORARY", tmp_path)
    (tmp_path / f"mizzen-{os.getuid()}").mkdir(mode=0o755)
    with pytest.raises(PermissionError, match="only this user may enter"):
        run_base(tmp_path / ("deep" * 20))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], check=False, capture_output=True
    )
    if made.returncode != 0:
        pytest.skip("this machine lets us mount nothing")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


async def test_a_full_disk_loses_log_lines_and_not_the_exit_code(small_disk: Path, tmp_path: Path) -> None:
    """The container is not held up, its end is known, and the log says what is missing when there is room again."""
    os.mkfifo(tmp_path / "fifo")
    code = "import sys\nfor n in range(100): print('x' * 10000, flush=True)\nopen(sys.argv[1]).read()\nprint('again')\nsys.exit(9)"
    started = await python(small_disk, code, str(tmp_path / "fifo"), cwd=tmp_path, log_bytes_max=10**8)
    writing = asyncio.create_task(asyncio.to_thread((tmp_path / "fifo").open, "w"))  # it has written all when it reads
    ready = await writing
    assert os.statvfs(small_disk).f_bfree == 0
    (started.attempt.folder / "log.1").write_bytes(b"")  # somebody makes room
    ready.close()
    end = await started.end()
    assert (end.code, end.reason) == (9, "Error")
    text = await started.text()
    assert "bytes of log were lost: the disk was full" in text
    assert text.endswith("again\n")


# -- what is said of what is not given

SAID = {
    "nothing": (pod(), []),
    "the machine's namespaces": (pod(hostPID=True), ["spec.hostPID: Pods share"]),
    "a user": (
        pod(container(securityContext={"runAsUser": 1000, "runAsNonRoot": True})),
        ["container main: securityContext.runAsUser: the process runs as the node's user",
         "container main: securityContext.runAsNonRoot: the process runs"],
    ),
    "the default profile": (pod(securityContext={"seccompProfile": {"type": "RuntimeDefault"}}), []),
    "a cpu limit": (pod(container(resources={"limits": {"cpu": "1", "memory": "1Gi"}})), ["limits.cpu is not enforced"]),
    "a device": (pod(container(resources={"limits": {"nvidia.com/gpu": "1"}})), ["limits.nvidia.com/gpu is not enforced"]),
    "a read-only folder": (
        pod(container(volumeMounts=[{"name": "v", "mountPath": "/v", "readOnly": True}]), volumes=[{"name": "v", "emptyDir": {}}]),
        ["mount /v: readOnly is not enforced"],
    ),
    "a small folder": (
        pod(volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Gi", "medium": "Memory"}}]),
        ["volume v: sizeLimit is not enforced", "volume v: medium Memory is an ordinary folder"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SAID)
def test_what_is_not_given_is_named_and_nothing_else(case: str) -> None:
    given_pod, expected = SAID[case]
    said = unsupported(given_pod, frozenset({"memory"}))
    assert len(said) == len(expected)
    for sentence, words in zip(said, expected, strict=True):
        assert words in sentence


def test_what_is_enforced_is_not_complained_about() -> None:
    given_pod = pod(container(securityContext={"runAsNonRoot": True}, resources={"limits": {"cpu": "1"}}))
    assert unsupported(given_pod, frozenset({"memory", "cpu", "runAsNonRoot"})) == ()


def test_the_image_note_names_the_images() -> None:
    assert image_note(pod(container(image="a:1"), container("b", image="b:2")), "Python 3.12.1") == (
        "Image a:1, b:2 is recorded and not used: this node runs Pods as processes, with Python 3.12.1"
    )

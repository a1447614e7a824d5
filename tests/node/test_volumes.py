"""What volumes hold, and that a reader sees all of the old or all of the new."""

import base64
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.node.builders import container, pod

from mizzen.local.node import mounts
from mizzen.local.node.environment import NodeFacts
from mizzen.local.node.references import Source
from mizzen.local.node.volumes import File, MountError, TokenWanted, payload, tokens_wanted

FACTS = NodeFacts("n1", "127.0.0.1", 4.0, 8 * 2**30)
SETTINGS = Source("ConfigMap", "default", "settings")
KEYS = Source("Secret", "default", "keys")
SOURCES = {
    SETTINGS: {"data": {"a": "1", "b": "2"}, "binaryData": {"c": base64.b64encode(b"\xff").decode()}},
    KEYS: {"data": {"k": base64.b64encode(b"secret").decode()}},
    Source("ConfigMap", "default", "none"): None,
}


def files_of(volume: dict, tokens: dict | None = None, **fields) -> dict[str, tuple[bytes, int]] | None:
    found = payload(pod(container(resources={"limits": {"cpu": "2"}}), **fields), {"name": "v", **volume},
                    SOURCES, tokens or {}, FACTS)  # fmt: skip
    return None if found is None else {name: (file.data, file.mode) for name, file in found.items()}


CONTENTS = {
    "all keys": ({"configMap": {"name": "settings"}}, {"a": (b"1", 0o644), "b": (b"2", 0o644), "c": (b"\xff", 0o644)}),
    "items": (
        {"configMap": {"name": "settings", "items": [{"key": "a", "path": "x/y", "mode": 0o400}], "defaultMode": 0o600}},
        {"x/y": (b"1", 0o400)},
    ),
    "default mode": ({"secret": {"secretName": "keys", "defaultMode": 0o400}}, {"k": (b"secret", 0o400)}),
    "optional": ({"configMap": {"name": "none", "optional": True}}, {}),
    "optional item": (
        {"configMap": {"name": "settings", "optional": True, "items": [{"key": "zz", "path": "zz"}]}},
        {},
    ),
    "empty": ({"emptyDir": {}}, None),
    "host": ({"hostPath": {"path": "/x"}}, None),
    "downward": (
        {"downwardAPI": {"items": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            {"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu"}},
        ]}},
        {"labels": (b'a="b \\"c\\""\nd="e"', 0o644), "cpu": (b"2", 0o644)},
    ),
    "projected": (
        {"projected": {"defaultMode": 0o440, "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "settings", "items": [{"key": "a", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ]}},
        {"token": (b"t0ken", 0o440), "ca.crt": (b"1", 0o440), "namespace": (b"default", 0o440)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTENTS)
def test_contents(case: str) -> None:
    volume, expected = CONTENTS[case]
    labels = {"labels": {"d": "e", "a": 'b "c"'}}
    assert files_of(volume, {TokenWanted("", 3607): "t0ken"}, meta=labels) == expected


REFUSED = {
    "missing": ({"configMap": {"name": "none"}}, "configmap 'none' not found"),
    "missing key": (
        {"secret": {"secretName": "keys", "items": [{"key": "z", "path": "z"}]}},
        "references non-existent secret key: z",
    ),
    "out of the volume": ({"configMap": {"name": "settings", "items": [{"key": "a", "path": "../x"}]}}, "without '..'"),
    "absolute": ({"configMap": {"name": "settings", "items": [{"key": "a", "path": "/x"}]}}, "without '..'"),
    "over the pointer": (
        {"configMap": {"name": "settings", "items": [{"key": "a", "path": "..data"}]}},
        "without '..'",
    ),
    "twice": (
        {"projected": {"sources": [{"configMap": {"name": "settings"}}, {"configMap": {"name": "settings"}}]}},
        "two sources write the same file 'a'",
    ),
    "no token yet": (
        {"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
        "has not been issued yet",
    ),
    "a claim": ({"persistentVolumeClaim": {"claimName": "c"}}, "type persistentVolumeClaim are not supported"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_mounted_says_why(case: str) -> None:
    volume, message = REFUSED[case]
    with pytest.raises(MountError, match=message) as caught:
        files_of(volume)
    assert str(caught.value).startswith('MountVolume.SetUp failed for volume "v" : ')
    assert caught.value.reason == "FailedMount"


def test_tokens_that_volumes_want() -> None:
    sources = [{"serviceAccountToken": {"path": "a", "audience": "x", "expirationSeconds": 600}}]
    given_pod = pod(volumes=[{"name": "v", "projected": {"sources": [*sources, *sources]}}, {"name": "w"}])
    assert tokens_wanted(given_pod) == {TokenWanted("x", 600)}


# -- on disk

names = st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3})?", fullmatch=True)
payloads = st.dictionaries(
    names, st.builds(File, st.binary(max_size=20), st.sampled_from([0o644, 0o400, 0o755])), max_size=5
).filter(lambda files: not any(a != b and b.startswith(f"{a}/") for a in files for b in files))


def read_all(folder: Path) -> dict[str, File]:
    """What a Pod sees: hidden names are not its business."""
    found = {}
    for root, _, files in os.walk(folder, followlinks=True):
        for name in files:
            path = Path(root) / name
            relative = path.relative_to(folder)
            if not relative.parts[0].startswith(".."):
                found[str(relative)] = File(path.read_bytes(), path.stat().st_mode & 0o777)
    return found


@given(st.lists(payloads, min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_a_volume_holds_just_the_last_payload(versions: list[dict[str, File]]) -> None:
    """Whatever it held before; nothing old is left, hidden or not; writing the same again changes nothing."""
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "v"
        for files in versions:
            mounts.write_files(folder, files)
            assert read_all(folder) == files
            assert len([path for path in folder.iterdir() if path.name.startswith("..")]) == 2
            assert mounts.write_files(folder, files) is False


def test_an_open_reader_of_the_old_keeps_the_old(tmp_path: Path) -> None:
    """The swap is one rename: whoever entered the old folder is not given a mixture."""
    mounts.write_files(tmp_path, {"a": File(b"1"), "b": File(b"1")})
    resolved = (tmp_path / "..data").resolve()
    opened = (tmp_path / "a").open("rb")
    mounts.write_files(tmp_path, {"a": File(b"2"), "b": File(b"2")})
    with opened:
        assert opened.read() == b"1"
    assert not resolved.exists()
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"2", b"2"]


def test_mounts_nest_and_sub_paths_stay_inside(tmp_path: Path) -> None:
    rootfs, outer, inner = tmp_path / "r", tmp_path / "outer", tmp_path / "inner"
    for folder in (rootfs, outer, inner):
        folder.mkdir()
    (inner / "deep").mkdir()
    (inner / "deep" / "f").write_text("x")
    mounts.mount(rootfs, "/data", outer)
    mounts.mount(rootfs, "/data/in", inner, "deep")
    mounts.mount(rootfs, "/one/file.txt", inner, "deep/f")
    mounts.mount(rootfs, "/new", inner, "made/here")
    assert (rootfs / "data/in/f").read_text() == "x"
    assert (rootfs / "one/file.txt").read_text() == "x"
    assert (inner / "made/here").is_dir()
    with pytest.raises(ValueError, match=r"without '\.\.'"):
        mounts.mount(rootfs, "/x", inner, "../outer")
    with pytest.raises(ValueError, match="below the root"):
        mounts.mount(rootfs, "/", inner)


def test_paths_of_a_container_stay_under_its_root(tmp_path: Path) -> None:
    assert mounts.inside(tmp_path, "/../../etc/passwd") == tmp_path / "etc/passwd"
    assert mounts.inside(tmp_path, "/dev/termination-log") == tmp_path / "dev/termination-log"


HOST_PATHS = {
    ("DirectoryOrCreate", "new"): True, ("FileOrCreate", "new"): True, ("Directory", "folder"): True,
    ("File", "file"): True, ("Directory", "file"): False, ("File", "folder"): False, ("Directory", "new"): False,
    ("Socket", "file"): False, ("", "new"): True,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), HOST_PATHS)
def test_host_paths_are_what_they_should_be(kind: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    volume = {"name": "v", "hostPath": {"path": str(tmp_path / name), "type": kind}}
    if HOST_PATHS[kind, name]:
        assert mounts.make_folder(volume, tmp_path / "unused") == tmp_path / name
    else:
        with pytest.raises(MountError, match="hostPath type check failed"):
            mounts.make_folder(volume, tmp_path / "unused")

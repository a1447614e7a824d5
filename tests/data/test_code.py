"""Code bundles: the same files give the same digest; git's rules; nothing leaves the folder."""

import gzip
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mizzen.data.entrypoint import load_function
from mizzen.data.lake.code import ALWAYS_IGNORED, bundle, code_path, put_bundle, unpack
from mizzen.data.lake.errors import CodeError, DigestMismatch, ObjectMissing
from mizzen.data.lake.objects import Store, digest_of


def project(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def names(store: Store, folder: Path, to: Path) -> set[str]:
    """What a bundle of the folder holds, as it is unpacked."""
    unpacked = unpack(store, put_bundle(store, bundle(folder)), to)
    return {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if not path.is_dir()}


def git(folder: Path, *arguments: str) -> None:
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, env={**os.environ, **identity})


def test_a_bundle_unpacks_to_the_same_files(file_store: Store, tmp_path: Path) -> None:
    """Contents, the executable bit, links inside and empty files survive; stray folders do not matter."""
    folder = project(tmp_path / "p", {"train.py": "x = 1\n", "pkg/__init__.py": "", "pkg/ünïcode näme.py": "y"})
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o700)
    (folder / "pkg" / "link.py").symlink_to("../train.py")
    (folder / "empty").mkdir()
    digest = put_bundle(file_store, bundle(folder))
    unpacked = unpack(file_store, digest, tmp_path / "u")
    assert (unpacked / "pkg" / "link.py").read_text() == "x = 1\n"
    assert os.access(unpacked / "run.sh", os.X_OK)
    assert not os.access(unpacked / "train.py", os.X_OK)
    assert bundle(unpacked).digest == digest


def test_the_digest_is_of_content_alone(tmp_path: Path) -> None:
    """Times, owners' modes, creation order and the folder's own name do not change it; a byte does."""
    first = project(tmp_path / "one", {"a.py": "1", "b/c.py": "2"})
    second = project(tmp_path / "two", {"b/c.py": "2", "a.py": "1"})
    os.utime(second / "a.py", (0, 0))
    (second / "a.py").chmod(0o640)
    assert bundle(first).digest == bundle(second).digest
    assert bundle(first).data == bundle(second).data
    (second / "a.py").write_text("3")
    assert bundle(first).digest != bundle(second).digest


def test_the_digest_does_not_depend_on_compression(file_store: Store, tmp_path: Path) -> None:
    """The same archive compressed by another zlib has the same name and is unpacked."""
    made = bundle(project(tmp_path / "p", {"a.py": "1" * 1000}))
    other = gzip.compress(gzip.decompress(made.data), compresslevel=1)
    assert other != made.data
    file_store.put(code_path(made.digest), other)
    assert (unpack(file_store, made.digest, tmp_path / "u") / "a.py").read_text() == "1" * 1000


IGNORED = {
    ".venv/lib/x.py": "",
    "__pycache__/a.pyc": "",
    ".mizzen/server/db": "",
    "pkg/__pycache__/b.pyc": "",
    "old.pyc": "",
}


def test_without_git_its_rules_hold_all_the_same(file_store: Store, tmp_path: Path) -> None:
    """.gitignore files, nested ones and negations; environments, caches and homes in any case."""
    folder = project(
        tmp_path / "p",
        {
            ".gitignore": "*.log\n/data/\n!keep.log\n",
            "a.log": "", "keep.log": "", "data/x.csv": "", "sub/data/y.csv": "",
            "sub/.gitignore": "secret.txt\n!b.log\n", "sub/secret.txt": "", "sub/b.log": "", "secret.txt": "",
            **IGNORED,
        },
    )  # fmt: skip
    expected = {".gitignore", "keep.log", "sub/data/y.csv", "sub/.gitignore", "sub/b.log", "secret.txt"}
    assert names(file_store, folder, tmp_path / "u") == expected


def test_in_a_checkout_git_decides(file_store: Store, tmp_path: Path) -> None:
    """Tracked though ignored, untracked but not ignored, deleted, a folder below the root, a nested checkout."""
    root = project(
        tmp_path / "r",
        {
            ".gitignore": "*.log\nout/\n",
            "p/tracked.log": "",
            "p/gone.py": "",
            "p/a.py": "",
            "p/out/x": "",
            "q/b.py": "",
        },
    )
    git(root, "init", "-q")
    git(root, "add", "-f", ".gitignore", "p/tracked.log", "p/gone.py", "p/a.py")
    git(root, "commit", "-q", "-m", "x")
    project(root / "p", {"new.py": "", "new.log": "", **IGNORED, "vendored/lib.py": "", "vendored/x.log": ""})
    (root / "p" / "gone.py").unlink()
    git(root / "p" / "vendored", "init", "-q")
    expected = {"tracked.log", "a.py", "new.py", "vendored/lib.py", "vendored/x.log"}
    assert names(file_store, root / "p", tmp_path / "u") == expected


def test_a_folder_that_git_ignores_as_a_whole_is_still_bundled(file_store: Store, tmp_path: Path) -> None:
    """Whoever names an ignored folder means its files."""
    root = project(tmp_path / "r", {".gitignore": "build/\n", "build/train.py": ""})
    git(root, "init", "-q")
    assert names(file_store, root / "build", tmp_path / "u") == {"train.py"}


def test_too_much_is_refused_with_the_largest_files(tmp_path: Path) -> None:
    """The error says how much, how much is allowed, which files, and what to do."""
    folder = project(tmp_path / "p", {"a.py": "", "weights.bin": "x" * 900, "data.csv": "y" * 500})
    with pytest.raises(CodeError, match=r"at most.*weights\.bin.*data\.csv.*\.gitignore"):
        bundle(folder, bytes_max=1000)


@pytest.mark.parametrize(("target", "inside"), [("../outside", False), ("/etc/hostname", False), ("b/../a.py", True)])
def test_links_that_leave_the_folder_are_refused(tmp_path: Path, target: str, inside: bool) -> None:
    """A bundle means the same wherever it is unpacked."""
    folder = project(tmp_path / "p", {"a.py": "", "b/c.py": ""})
    (folder / "link").symlink_to(target)
    if inside:
        assert bundle(folder).data
    else:
        with pytest.raises(CodeError, match="expected a link that stays inside"):
            bundle(folder)


def test_nothing_to_bundle_is_an_error(tmp_path: Path) -> None:
    """An absent folder, an empty one, a file."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for path, message in (("absent", "found none"), ("empty", "found none"), ("file", "expected a folder")):
        with pytest.raises(CodeError, match=message):
            bundle(tmp_path / path)


def archive(members: list[tarfile.TarInfo]) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return plain.getvalue()


def member(name: str, type_: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = type_, link
    made.size = 1 if type_ == tarfile.REGTYPE else 0
    return made


@pytest.mark.parametrize(
    "members",
    [
        [member("../evil")],
        [member("/tmp/evil")],
        [member("a/../../evil")],
        [member("link", tarfile.SYMTYPE, "/etc")],
        [member("link", tarfile.SYMTYPE, "..")],
        [member("d/link", tarfile.SYMTYPE, "../.."), member("d/link/evil")],
        [member("hard", tarfile.LNKTYPE, "/etc/passwd")],
        [member("pipe", tarfile.FIFOTYPE)],
    ],
)  # fmt: skip
def test_a_crafted_archive_cannot_leave_its_folder(
    file_store: Store, tmp_path: Path, members: list[tarfile.TarInfo]
) -> None:
    """A digest says that bytes are those asked for, not that they mean well."""
    plain = archive(members)
    file_store.put(code_path(digest_of(plain)), gzip.compress(plain))
    with pytest.raises(CodeError):
        unpack(file_store, digest_of(plain), tmp_path / "u")
    assert {path.name for path in tmp_path.iterdir()} <= {"a store"}


def test_damaged_bundles_are_refused(file_store: Store, tmp_path: Path) -> None:
    """Cut short, not compressed, other content, absent."""
    made = bundle(project(tmp_path / "p", {"a.py": "1" * 5000}))
    other = bundle(project(tmp_path / "q", {"a.py": "2"}))
    for damaged in (made.data[:-5], made.data[: len(made.data) // 2], b"nonsense", other.data, b""):
        file_store.put(code_path(made.digest), damaged)
        with pytest.raises(DigestMismatch):
            unpack(file_store, made.digest, tmp_path / "u")
        assert not (tmp_path / "u").exists()
    with pytest.raises(ObjectMissing):
        unpack(file_store, other.digest, tmp_path / "u")


NAMES = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=12)


@given(
    st.dictionaries(NAMES.filter(lambda name: name not in {".", ".."}), st.binary(max_size=50), min_size=1, max_size=6)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_any_names_and_contents_survive(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    """Whatever a file system takes as a name comes back, but for what is always ignored."""
    top = tmp_path_factory.mktemp("any")
    store = Store.open((top / "store").as_uri())
    (top / "p").mkdir()
    kept = {
        name: data
        for name, data in files.items()
        if name not in {*ALWAYS_IGNORED, ".gitignore"} and name[-4:] != ".pyc"
    }
    for name, data in kept.items():
        (top / "p" / name).write_bytes(data)
    if kept:
        unpacked = unpack(store, put_bundle(store, bundle(top / "p")), top / "u")
        assert {path.name: path.read_bytes() for path in unpacked.iterdir()} == kept


def test_functions_are_found_or_what_there_is_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No module, no function, no callable; errors of the module itself pass through."""
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    project(tmp_path, {"zz_good.py": "def f(): return 42\nvalue = 3\n", "zz_bad.py": "import zz_not_there\n"})
    assert load_function(tmp_path, "zz_good:f")() == 42
    with pytest.raises(CodeError, match=r"expected a module zz_absent.*zz_bad, zz_good"):
        load_function(tmp_path, "zz_absent:f")
    with pytest.raises(CodeError, match="found nothing of that name"):
        load_function(tmp_path, "zz_good:g")
    with pytest.raises(CodeError, match="found a int"):
        load_function(tmp_path, "zz_good:value")
    with pytest.raises(ModuleNotFoundError, match="zz_not_there"):
        load_function(tmp_path, "zz_bad:f")

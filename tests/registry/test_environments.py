"""Environments: built once whoever comes, whole or not at all, whatever kills the builder, and kept while in use."""

import base64
import hashlib
import os
import signal
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mizzen.registry.environments import Environment, EnvironmentFailed, ensure, key_of, sweep
from mizzen.registry.errors import ModelUnfit
from mizzen.registry.locks import requirements_of

PATIENCE_S = 60.0


def wheel(folder: Path, name: str = "mzdemo", version: str = "1.5", source: str = "X = 1\n") -> str:
    """Makes a wheel, with a module that says what it is; returns its SHA-256."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        n: base64.urlsafe_b64encode(hashlib.sha256(t.encode()).digest()).rstrip(b"=").decode() for n, t in files.items()
    }
    record = "".join(f"{n},sha256={digests[n]},{len(t)}\n" for n, t in files.items())
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(zipfile.ZipInfo(inner), text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lock(folder: Path, *lines: str) -> bytes:
    return "\n".join(["--no-index", f"--find-links {folder}", *lines, ""]).encode()


def says(environment: Environment, code: str) -> str:
    run = subprocess.run(
        [environment.python, "-P", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    return run.stdout.strip()


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    wheel(tmp_path / "wheels")
    return tmp_path / "wheels"


def test_an_environment_holds_what_it_names_and_what_a_worker_stands_on_and_nothing_else(tmp_path, wheels):
    found = ensure(lock(wheels, "mzdemo==1.5"), tmp_path / "cache")
    assert says(found, "import mzdemo, numpy, msgspec, mizzen.serving.worker.unpacked; print(mzdemo.X)") == "1"
    absent = (
        "import importlib.util as u; print([n for n in ('pyarrow', 'pydantic', 'sklearn', 'pip') if u.find_spec(n)])"
    )
    assert says(found, absent) == "[]"
    found.release()


def test_what_it_names_comes_before_what_a_worker_stands_on(tmp_path, wheels):
    wheel(wheels, "uvloop", "99.0", "X = 'its own'\n")
    found = ensure(lock(wheels, "uvloop==99.0"), tmp_path / "cache")
    assert says(found, "import uvloop; print(uvloop.X)") == "its own"
    found.release()


def test_it_is_built_once_and_taken_from_the_cache_after(tmp_path, wheels):
    cache, requirements = tmp_path / "cache", lock(wheels, "mzdemo==1.5")
    first = ensure(requirements, cache)
    before = first.python.lstat().st_mtime_ns
    for path in wheels.iterdir():
        path.unlink()
    again = ensure(requirements, cache)
    assert (again.folder, again.python.lstat().st_mtime_ns) == (first.folder, before)
    assert key_of(requirements) != key_of(requirements + b"\n")


def test_of_many_that_come_at_once_one_builds(tmp_path, wheels):
    """Each in a process of its own; all get the same, whole."""
    requirements = tmp_path / "lock.txt"
    requirements.write_bytes(lock(wheels, "mzdemo==1.5"))
    program = builder(tmp_path, requirements)
    with ThreadPoolExecutor() as pool:
        runs = [
            pool.submit(subprocess.run, program, capture_output=True, text=True, timeout=PATIENCE_S) for _ in range(4)
        ]
    said = [run.result().stdout for run in runs]
    assert len(set(said)) == 1, [run.result() for run in runs]
    assert said[0].strip().endswith("1.5")


def builder(place: Path, requirements: Path) -> list[str]:
    """A process that takes the environment up and says its python and what is in it."""
    code = (
        "import subprocess, sys; from pathlib import Path; from mizzen.registry.environments import ensure\n"
        f"found = ensure(Path({str(requirements)!r}).read_bytes(), Path({str(place / 'cache')!r}))\n"
        "say = 'from importlib.metadata import version as v; print(v(\"mzdemo\"))'\n"
        "print(found.python, subprocess.run([found.python, '-P', '-c', say], capture_output=True, text=True).stdout)\n"
    )
    return [sys.executable, "-c", code]


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "with what it started"])
@pytest.mark.parametrize("moment", ["pyvenv.cfg", "bridge", "requirements.txt"])
def test_a_builder_that_is_killed_leaves_nothing_that_is_taken_for_whole(tmp_path, wheels, moment, alone):
    """At any moment: its lock goes with it, and what it left is built anew. An installer that outlives it is waited
    for, so that two never write in one place.
    """
    requirements = tmp_path / "lock.txt"
    requirements.write_bytes(lock(wheels, "mzdemo==1.5"))
    folder = tmp_path / "cache" / "environments" / key_of(requirements.read_bytes())
    process = subprocess.Popen(builder(tmp_path, requirements), stdout=subprocess.DEVNULL, start_new_session=True)
    while not (folder / moment).exists() and process.poll() is None:
        pass
    (os.kill if alone else os.killpg)(process.pid, signal.SIGKILL)
    process.wait()
    found = ensure(requirements.read_bytes(), tmp_path / "cache")
    assert says(found, "import mzdemo; print(mzdemo.X)") == "1"
    assert (folder / "complete").exists()
    found.release()


def test_a_hash_that_is_not_the_files_is_refused_and_the_next_try_is_a_new_one(tmp_path, wheels):
    digest = hashlib.sha256(next(wheels.iterdir()).read_bytes()).hexdigest()
    with pytest.raises(EnvironmentFailed, match="DO NOT MATCH THE HASHES"):
        ensure(lock(wheels, f"mzdemo==1.5 --hash=sha256:{'0' * 64}"), tmp_path / "cache")
    found = ensure(lock(wheels, f"mzdemo==1.5 --hash=sha256:{digest}"), tmp_path / "cache")
    assert says(found, "import mzdemo; print(mzdemo.X)") == "1"
    with pytest.raises(EnvironmentFailed, match="No matching distribution found for mzdemo==9"):
        ensure(lock(wheels, "mzdemo==9"), tmp_path / "cache")
    assert sweep(tmp_path / "cache") != [], "what was begun and failed is taken away"
    found.release()


def test_what_is_in_use_stays_and_what_is_not_goes_when_its_time_is_over(tmp_path, wheels):
    cache = tmp_path / "cache"
    used, unused = ensure(lock(wheels, "mzdemo==1.5"), cache), ensure(lock(wheels), cache)
    unused.release()
    later_s = (unused.folder / "complete").stat().st_mtime + 100.0
    assert sweep(cache, unused_s_max=200.0, now_s=later_s) == []
    assert sweep(cache, unused_s_max=50.0, now_s=later_s) == [unused.folder.name]
    assert not unused.folder.exists()
    assert says(used, "import mzdemo; print(mzdemo.X)") == "1"
    used.release()
    assert sweep(cache, unused_s_max=50.0, now_s=later_s) == [used.folder.name]


# Lock files


def test_requirements_are_taken_as_they_are(tmp_path):
    text = "a==1 --hash=sha256:00\nb>=2 ; python_version > '3'\n# of ours\nc @ https://example.invalid/c.whl\n"
    path = tmp_path / "requirements.txt"
    path.write_text(text)
    assert requirements_of(path) == text.encode()


@pytest.mark.parametrize("line", ["-e .", "./wheels/a.whl", "-r other.txt", "/abs/a.whl", "--constraint c.txt"])
def test_what_is_not_there_on_another_machine_is_refused(tmp_path, line):
    path = tmp_path / "requirements.txt"
    path.write_text(f"a==1\n{line}\n")
    with pytest.raises(ModelUnfit, match=r"requirements.txt:2: expected packages by name or URL"):
        requirements_of(path)


PYLOCK = """
lock-version = "1.0"
created-by = "test"
[[packages]]
name = "mzdemo"
version = "1.5"
marker = "python_version >= '3'"
[[packages.wheels]]
name = "mzdemo-1.5-py3-none-any.whl"
hashes = {{ sha256 = "{digest}" }}
"""


def test_a_pylock_becomes_pinned_lines_with_hashes_that_pip_installs(tmp_path, wheels):
    digest = hashlib.sha256(next(wheels.iterdir()).read_bytes()).hexdigest()
    path = tmp_path / "pylock.toml"
    path.write_text(PYLOCK.format(digest=digest))
    lines = requirements_of(path)
    assert lines == f"mzdemo==1.5 ; python_version >= '3' --hash=sha256:{digest}\n".encode()
    found = ensure(lock(wheels) + lines, tmp_path / "cache")
    assert says(found, "import mzdemo; print(mzdemo.X)") == "1"
    found.release()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lock-version = '2.0'", "expected 1.0"),
        ("lock-version = ", "expected TOML"),
        ("lock-version = '1.0'\n[[packages]]\nname = 'a'\n[packages.directory]\npath = '.'", r"packages\[0\] \(a\): expected a version"),
        ("lock-version = '1.0'\n[[packages]]\nname = 'a'\nversion = '1'\n[[packages.wheels]]\nname = 'a.whl'\nhashes = {}", "expected a version"),
    ],
)  # fmt: skip
def test_a_pylock_that_pip_could_not_keep_to_is_refused(tmp_path, text, words):
    path = tmp_path / "pylock.toml"
    path.write_text(text)
    with pytest.raises(ModelUnfit, match=words):
        requirements_of(path)


def test_uvs_lock_is_exported_by_uv(tmp_path, wheels, monkeypatch):
    """What the project needs, pinned; not the project itself."""
    uv = Path(pytest.importorskip("uv").find_uv_bin())
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        "[project]\nname = 'p'\nversion = '0.1'\nrequires-python = '>=3.11'\ndependencies = ['mzdemo']\n"
    )
    monkeypatch.setenv("PATH", f"{uv.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    command = ["uv", "lock", "-q", "--offline", "--no-index", "--find-links", str(wheels), "--python", sys.executable]
    subprocess.run(command, cwd=project, check=True)
    assert requirements_of(project / "uv.lock").decode().split() == ["mzdemo==1.5"]
    (project / "pyproject.toml").unlink()
    with pytest.raises(ModelUnfit, match="beside its pyproject.toml"):
        requirements_of(project / "uv.lock")


def test_uvs_lock_needs_uv_or_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "uv.lock").write_text("version = 1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'p'\nversion = '0.1'\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelUnfit, match=r"uv export -o pylock.toml"):
        requirements_of(tmp_path / "uv.lock")
    with pytest.raises(ModelUnfit, match="expected a lock file: No such file"):
        requirements_of(tmp_path / "absent.txt")

"""The home: one supervisor at a time, no newer formats, nothing read half-written."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mizzen.local.apiserver.security import kubeconfig
from mizzen.local.supervisor.home import FORMAT, Home, HomeError, HomeLock, write_atomically


def test_a_home_is_private_and_says_its_format(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    home.prepare()
    home.prepare()
    assert home.root.stat().st_mode & 0o777 == 0o700
    assert json.loads((home.root / "home.json").read_text()) == {"format": FORMAT}


def test_a_newer_home_is_refused_untouched(tmp_path: Path) -> None:
    home = Home(tmp_path)
    (tmp_path / "home.json").write_text('{"format": 2}')
    with pytest.raises(HomeError, match="this home has format 2"):
        home.prepare()
    assert (tmp_path / "home.json").read_text() == '{"format": 2}'


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": "one"}'])
def test_a_home_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "home.json").write_text(text)
    with pytest.raises(HomeError, match="home"):
        Home(tmp_path).prepare()


def test_a_file_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError, match="cannot be used as a home"):
        Home(tmp_path / "file").prepare()


def test_the_environment_names_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIZZEN_HOME", str(tmp_path))
    assert Home.from_environment().root == tmp_path
    assert Home.from_environment(Path("other")).root == Path("other").absolute()
    monkeypatch.delenv("MIZZEN_HOME")
    assert Home.from_environment().root == Path(".mizzen").absolute()


def test_one_holder_at_a_time_and_a_killed_one_frees_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    script = (
        "import sys; from pathlib import Path; from mizzen.local.supervisor.home import *;"
        "lock = HomeLock(Home(Path(sys.argv[1]))); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "src"},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(HomeError, match=f"process {holder.pid}"):
            HomeLock(home).acquire()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    lock = HomeLock(home)
    lock.acquire()
    lock.release()


def test_a_document_is_old_or_new_and_never_half(tmp_path: Path) -> None:
    path = tmp_path / "document.json"
    write_atomically(path, {"a": 1})
    write_atomically(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert [entry.name for entry in tmp_path.iterdir()] == ["document.json"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_kubeconfig_from_before_names_the_server_that_will_be_there(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.point_kubeconfig("https://127.0.0.1:7070")
    assert not home.kubeconfig.exists()
    written = {"ca_pem": b"some authority", "token": "some token"}
    kubeconfig.write(home.kubeconfig, server="https://127.0.0.1:7070", **written)
    home.point_kubeconfig("https://127.0.0.1:7170")
    kubeconfig.write(tmp_path / "expected", server="https://127.0.0.1:7170", **written)
    assert home.kubeconfig.read_bytes() == (tmp_path / "expected").read_bytes()
    assert home.kubeconfig.stat().st_mode & 0o777 == 0o600

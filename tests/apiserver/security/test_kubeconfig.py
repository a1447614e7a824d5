"""The kubeconfig as clients read it."""

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from lightkube.config.kubeconfig import KubeConfig

from mizzen.local.apiserver.security import files, kubeconfig

SERVER = "https://127.0.0.1:6443"


def test_a_client_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    kubeconfig.write(path, server=SERVER, ca_pem=b"PEM", token="mzn_secret")
    config = KubeConfig.from_file(path).get()
    assert (config.cluster.server, config.cluster.certificate_auth_data) == (SERVER, "UEVN")
    assert (config.user.token, config.namespace) == ("mzn_secret", "default")
    assert kubeconfig.token_in(path) == "mzn_secret"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    kubeconfig.write(path, server=SERVER, ca_pem=b"PEM", token="mzn_secret")
    command = ["kubectl", "--kubeconfig", str(path), "config", "view", "--minify", "--raw", "-o", "json"]
    view = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert view["users"] == [{"name": "admin", "user": {"token": "mzn_secret"}}]
    assert view["clusters"][0]["cluster"] == {"server": SERVER, "certificate-authority-data": "UEVN"}


def test_it_is_the_owners_alone_from_the_first_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while it is being written, and when the file that it replaces was open to all."""
    path = tmp_path / "home" / "kubeconfig"
    path.parent.mkdir()
    path.write_text("old")
    path.chmod(0o644)
    modes = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (modes.append(stat.S_IMODE(os.fstat(fd).st_mode)), sync(fd)))
    kubeconfig.write(path, server=SERVER, ca_pem=b"PEM", token="t")
    assert modes[0] == 0o600
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["kubeconfig"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kubeconfig"
    kubeconfig.write(path, server=SERVER, ca_pem=b"PEM", token="old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_private(path, b"new")
    assert kubeconfig.token_in(path) == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["kubeconfig"]


@pytest.mark.parametrize(
    "content", ["", "a: [", "[]", "contexts: []\nusers: []\ncurrent-context: x", "current-context: 3"]
)
def test_a_file_of_another_kind_has_no_token(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kubeconfig"
    assert kubeconfig.token_in(path) is None
    path.write_text(content)
    assert kubeconfig.token_in(path) is None

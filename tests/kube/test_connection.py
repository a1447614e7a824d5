"""A connection is found where every Kubernetes program looks, and where none is found the message names each place."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from mizzen.kube import connection
from mizzen.kube.client import Client
from mizzen.kube.connection import Connection, from_environment, from_kubeconfig
from mizzen.kube.errors import ConfigurationError, Unauthorized
from mizzen.kube.identity import TokenFile


def kubeconfig(path: Path, server: str = "https://one.invalid", user: Any = None, **more: Any) -> Path:
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "ns"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user or {"token": "t"}}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config | more))
    return path


async def authorization(found: Connection, answers: tuple[int, ...] = (200,)) -> list[str]:
    """What the server is shown, request by request."""
    shown: list[str] = []
    codes = list(answers)

    def handle(request: httpx2.Request) -> httpx2.Response:
        shown.append(request.headers.get("authorization", ""))
        return httpx2.Response(codes.pop(0), json={"metadata": {}})

    async with Client(found, transport=httpx2.MockTransport(handle)) as client:
        while codes:
            await client.request("GET", "/version")
    return shown


def pod_files(root: Path) -> Path:
    folder = root / connection.SERVICE_ACCOUNT
    folder.mkdir(parents=True)
    (folder / "token").write_text("pod-token\n")
    (folder / "namespace").write_text("pod-ns")
    authority = Path(connection.ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt")
    (folder / "ca.crt").write_bytes(authority.read_bytes())
    return folder


def test_the_order_of_places(tmp_path: Path) -> None:
    """Flag, KUBECONFIG, the Pod's service account, the home's, the user's: each wins over those after it."""
    pod_files(tmp_path / "root")
    environ = {
        "KUBECONFIG": str(kubeconfig(tmp_path / "env", "https://env.invalid")),
        "MIZZEN_ROOTFS": str(tmp_path / "root"),
        "KUBERNETES_SERVICE_HOST": "fd00::1",
        "KUBERNETES_SERVICE_PORT": "6443",
        "MIZZEN_HOME": str(kubeconfig(tmp_path / "home" / "kubeconfig", "https://home.invalid").parent),
        "HOME": str(kubeconfig(tmp_path / "user" / ".kube" / "config", "https://user.invalid").parents[1]),
    }
    flag = kubeconfig(tmp_path / "flag", "https://flag.invalid")
    assert from_environment(flag, environ=environ).server == "https://flag.invalid"
    assert from_environment(environ=environ).server == "https://env.invalid"
    del environ["KUBECONFIG"]
    found = from_environment(environ=environ)
    assert (found.server, found.namespace) == ("https://[fd00::1]:6443", "pod-ns")
    del environ["KUBERNETES_SERVICE_HOST"]
    assert from_environment(environ=environ).server == "https://home.invalid"
    (tmp_path / "home" / "kubeconfig").unlink()
    assert from_environment(environ=environ).server == "https://user.invalid"
    (tmp_path / "user" / ".kube" / "config").unlink()
    with pytest.raises(ConfigurationError) as raised:
        from_environment(environ=environ)
    for place in ("--kubeconfig", "$KUBECONFIG", "service account: not in a Pod", f"{tmp_path}/home/kubeconfig",
                  f"{tmp_path}/user/.kube/config", "mizzen up"):  # fmt: skip
        assert place in str(raised.value)


def test_a_place_that_was_named_must_work(tmp_path: Path) -> None:
    environ = {"KUBECONFIG": str(tmp_path / "none"), "HOME": str(kubeconfig(tmp_path / ".kube" / "config").parents[1])}
    with pytest.raises(ConfigurationError, match=f"{tmp_path}/none: no such kubeconfig file"):
        from_environment(environ=environ)
    with pytest.raises(ConfigurationError, match="no such kubeconfig file"):
        from_environment(tmp_path / "other", environ=environ)


def test_several_files_are_merged_first_one_wins_and_paths_stay_relative_to_theirs(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "token").write_text("from-two")
    one = kubeconfig(tmp_path / "one" / "config", users=[])
    two = kubeconfig(tmp_path / "two" / "config", "https://two.invalid", user={"tokenFile": "token"})
    found = from_kubeconfig(os.pathsep.join([str(tmp_path / "missing"), str(one), str(two)]))
    assert (found.server, found.namespace) == ("https://one.invalid", "ns")
    assert isinstance(found.identity, TokenFile)
    assert found.identity.path == tmp_path / "two" / "token"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[1, 2", "cannot read the kubeconfig"),
        ("just text", "expected a kubeconfig, found str"),
        ("{}", "No current context"),
        ("current-context: c", "Context 'c' not found"),
        ("current-context: c\ncontexts: [{name: c, context: {cluster: x}}]", "the context names 'x'"),
        ("current-context: c\ncontexts: [{name: c, context: {cluster: 5}}]", "not a kubeconfig"),
        ("current-context: c\ncontexts: [{context: {cluster: x}}]", "the context names 'name'"),
    ],
)
def test_a_broken_kubeconfig_is_named_with_what_is_wrong(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=f"{path}: .*{says}"):
        from_kubeconfig(path)


def test_certificates_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = kubeconfig(
        tmp_path / "c", clusters=[{"name": "c", "cluster": {"server": "https://x", "certificate-authority": "ca.crt"}}]
    )
    with pytest.raises(ConfigurationError, match="cannot use the certificates"):
        from_kubeconfig(path)


async def test_a_rotated_token_is_noticed_and_a_missing_one_survives_the_moment(tmp_path: Path) -> None:
    folder = pod_files(tmp_path)
    environ = {"MIZZEN_ROOTFS": str(tmp_path), "KUBERNETES_SERVICE_HOST": "h", "KUBERNETES_SERVICE_PORT": "1"}
    found = from_environment(environ=environ)
    assert await authorization(found) == ["Bearer pod-token"]
    # As the kubelet does it: a new file takes the place of the old one.
    (folder / "new").write_text("rotated")
    os.utime(folder / "new", ns=(1, 1))
    (folder / "new").replace(folder / "token")
    assert await authorization(found) == ["Bearer rotated"]
    (folder / "token").unlink()
    assert await authorization(found) == ["Bearer rotated"]


async def test_a_token_that_is_refused_is_read_again_once(tmp_path: Path) -> None:
    """The file may be newer than its time says, and a token that stays the same is not shown twice."""
    (tmp_path / "token").write_text("old")
    found = from_kubeconfig(kubeconfig(tmp_path / "c", user={"tokenFile": "token"}))
    with pytest.raises(Unauthorized):
        await authorization(found, (401,))
    stamp = (tmp_path / "token").stat().st_mtime_ns
    (tmp_path / "token").write_text("new")
    os.utime(tmp_path / "token", ns=(stamp, stamp))
    assert await authorization(found, (401, 200)) == ["Bearer old", "Bearer new"]


async def test_a_token_that_was_never_there_is_a_configuration_error(tmp_path: Path) -> None:
    found = from_kubeconfig(kubeconfig(tmp_path / "c", user={"tokenFile": "nowhere"}))
    with pytest.raises(ConfigurationError, match="nowhere: cannot read the bearer token"):
        await authorization(found)


async def test_user_and_password(tmp_path: Path) -> None:
    found = from_kubeconfig(kubeconfig(tmp_path / "c", user={"username": "u", "password": "p"}))
    assert (await authorization(found))[0].startswith("Basic ")


def plugin(folder: Path, body: str) -> dict[str, Any]:
    script = folder / "plugin.py"
    script.write_text(f"#!{sys.executable}\nimport json, os, pathlib\n{body}")
    script.chmod(0o755)
    api = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": api, "command": "./plugin.py", "env": [{"name": "WHO", "value": "me"}], "args": []}}


COUNTING = """
count = pathlib.Path(__file__).with_name("count")
n = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(n))
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
print(json.dumps({"kind": "ExecCredential", "apiVersion": info["apiVersion"],
                  "status": {"token": f"{os.environ['WHO']}-{n}", "expirationTimestamp": "EXPIRES"}}))
"""


@pytest.mark.parametrize(
    ("expires", "answers", "shown"),
    [
        ("2999-01-01T00:00:00Z", (200, 200), ["Bearer me-1", "Bearer me-1"]),
        ("2001-01-01T00:00:00Z", (200, 200), ["Bearer me-1", "Bearer me-2"]),
        ("2999-01-01T00:00:00Z", (200, 401, 200), ["Bearer me-1", "Bearer me-1", "Bearer me-2"]),
    ],
    ids=["kept", "expired", "refused"],
)
async def test_a_credential_plugin_is_asked_again_when_its_token_expires_or_is_refused(
    tmp_path: Path, expires: str, answers: tuple[int, ...], shown: list[str]
) -> None:
    user = plugin(tmp_path, COUNTING.replace("EXPIRES", expires))
    assert await authorization(from_kubeconfig(kubeconfig(tmp_path / "c", user=user)), answers) == shown


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise SystemExit('log in first')", "exit status 1: log in first"),
        ("print('{}')", "expected an ExecCredential"),
    ],
)
async def test_a_credential_plugin_that_fails_is_quoted(tmp_path: Path, body: str, says: str) -> None:
    found = from_kubeconfig(kubeconfig(tmp_path / "c", user=plugin(tmp_path, body)))
    with pytest.raises(ConfigurationError, match=says):
        await authorization(found)


async def test_a_credential_plugin_that_is_not_installed_says_how_to_get_it(tmp_path: Path) -> None:
    api = "client.authentication.k8s.io/v1"
    user = {"exec": {"apiVersion": api, "command": "no-such-plugin", "installHint": "get it from the cloud"}}
    found = from_kubeconfig(kubeconfig(tmp_path / "c", user=user))
    with pytest.raises(ConfigurationError, match=r"no-such-plugin: not found \(get it from the cloud\)"):
        await authorization(found)


def test_json_is_yaml(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "c")
    path.write_text(json.dumps(yaml.safe_load(path.read_text())))
    assert from_kubeconfig(path).server == "https://one.invalid"

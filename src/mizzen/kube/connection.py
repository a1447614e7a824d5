"""Where the API server is and who we are: found in the places every Kubernetes program looks, and in a Mizzen home.

The kubeconfig is read and the TLS context made by lightkube. What is here is the order of places, an error that names
each of them, the merging of several files in `KUBECONFIG` as kubectl does it, and authentication that notices a rotated
service-account token.
"""

import asyncio
import os
import shutil
import ssl
from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import yaml
from lightkube.config.client_adapter import verify_cluster
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.config.models import User, UserExec
from lightkube.core.exceptions import ConfigError

from mizzen.kube.errors import ConfigurationError

SERVICE_ACCOUNT = "var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True, slots=True)
class Connection:
    """All that is needed to talk to one API server."""

    server: str
    """Base URL."""
    namespace: str
    """Used where a call names none."""
    source: str
    """Where this was found, for messages: a file, or `service account in ...`."""
    tls: ssl.SSLContext
    auth: httpx2.Auth | None


class TokenAuth(httpx2.Auth):
    """A bearer token that does not change."""

    def __init__(self, token: str) -> None:
        self._authorization = f"Bearer {token.strip()}"

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["Authorization"] = self._authorization
        yield request


class TokenFileAuth(httpx2.Auth):
    """A bearer token in a file that its owner renews: read again when the file changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: int | None = None
        self._authorization = ""

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        try:
            changed_at = self._path.stat().st_mtime_ns
            if changed_at != self._read_at:
                self._authorization = f"Bearer {self._path.read_text().strip()}"
                self._read_at = changed_at
        except OSError as error:
            # Mid-rotation the file may be away for a moment; the last token is still good then.
            if self._read_at is None:
                raise ConfigurationError(f"{self._path}: cannot read the bearer token: {error}") from error
        request.headers["Authorization"] = self._authorization
        yield request


class ExecAuth(httpx2.Auth):
    """A token from a credential plugin (`users[].user.exec`), asked for again when it expires or is refused."""

    requires_response_body = False
    _MARGIN = timedelta(seconds=30)

    def __init__(self, plugin: UserExec, folder: Path) -> None:
        self._plugin = plugin
        self._folder = folder
        self._lock = asyncio.Lock()
        self._authorization: str | None = None
        self._expires: datetime | None = None

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        async with self._lock:
            if self._authorization is None or (self._expires and datetime.now(UTC) > self._expires - self._MARGIN):
                await self._ask()
            used = self._authorization or ""
        request.headers["Authorization"] = used
        response = yield request
        if response.status_code != 401:
            return
        async with self._lock:
            if self._authorization == used:
                await self._ask()
        request.headers["Authorization"] = self._authorization or ""
        yield request

    async def _ask(self) -> None:
        plugin = self._plugin
        command = plugin.command
        if os.sep in command and not Path(command).is_absolute():
            command = str(self._folder / command)
        if shutil.which(command) is None:
            hint = f" ({plugin.installHint.strip()})" if plugin.installHint else ""
            raise ConfigurationError(f"credential plugin {plugin.command}: not found{hint}")
        info = {"apiVersion": plugin.apiVersion, "kind": "ExecCredential", "spec": {"interactive": False}}
        env = {
            **os.environ,
            **{variable.name: variable.value for variable in plugin.env or ()},
            "KUBERNETES_EXEC_INFO": msgspec.json.encode(info).decode(),
        }
        process = await asyncio.create_subprocess_exec(
            command, *(plugin.args or ()), env=env,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        if process.returncode != 0:
            said = err.decode(errors="replace").strip()[-500:]
            raise ConfigurationError(f"credential plugin {plugin.command}: exit status {process.returncode}: {said}")
        try:
            status: dict[str, Any] = msgspec.json.decode(out)["status"]
            self._authorization = f"Bearer {status['token']}"
            expires = status.get("expirationTimestamp")
            self._expires = datetime.fromisoformat(expires) if expires else None
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"credential plugin {plugin.command}: expected an ExecCredential with status.token, got {out[:200]!r}"
            ) from error


def from_kubeconfig(path: str | Path, context: str | None = None) -> Connection:
    """The connection that a kubeconfig describes. Several files, separated as in `PATH`, are merged as kubectl does.

    Raises `ConfigurationError` where a file is missing or wrong, or has no such context.
    """
    paths = [Path(part).expanduser() for part in str(path).split(os.pathsep) if part]
    existing = [one for one in paths if one.is_file()]
    if not existing:
        raise ConfigurationError(f"{path}: no such kubeconfig file")
    merged: dict[str, Any] = {}
    for one in existing:
        _merge(merged, _read(one))
    for section in ("clusters", "contexts", "users"):
        merged.setdefault(section, [])
    try:
        chosen = KubeConfig.from_dict(merged, fname=existing[0]).get(context)
    except ConfigError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    except KeyError as error:
        raise ConfigurationError(f"{path}: the context names {error.args[0]!r}, which is not there") from error
    except (msgspec.ValidationError, TypeError) as error:
        raise ConfigurationError(f"{path}: not a kubeconfig: {error}") from error
    if chosen is None:
        raise ConfigurationError(f"{path}: no current-context; set one or name a context")
    return _connection(chosen, str(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: cannot read the kubeconfig: {error}") from error
    if not isinstance(config, dict):
        raise ConfigurationError(f"{path}: expected a kubeconfig, found {type(config).__name__}")
    for section, inner in (("clusters", "cluster"), ("users", "user")):
        for entry in config.get(section) or ():
            _make_absolute(entry.get(inner) or {}, path.parent.absolute())
    return config


def _make_absolute(settings: dict[str, Any], folder: Path) -> None:
    """Paths in a kubeconfig are relative to the file they stand in, which merging forgets."""
    for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
        if settings.get(key):
            settings[key] = str(folder / Path(settings[key]).expanduser())


def _merge(merged: dict[str, Any], more: dict[str, Any]) -> None:
    if not merged.get("current-context"):
        merged["current-context"] = more.get("current-context") or None
    for section in ("clusters", "contexts", "users"):
        known = merged.setdefault(section, [])
        names = {entry.get("name") for entry in known}
        known += [entry for entry in more.get(section) or () if entry.get("name") not in names]


def _connection(chosen: SingleConfig, source: str) -> Connection:
    user = chosen.user or User()
    try:
        tls = verify_cluster(chosen.cluster, user, chosen.abs_file, trust_env=False)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{source}: cannot use the certificates of this kubeconfig: {error}") from error
    folder = chosen.fname.parent if chosen.fname else Path.cwd()
    return Connection(chosen.cluster.server, chosen.namespace, source, tls, _auth(user, folder, source))


def _auth(user: User, folder: Path, source: str) -> httpx2.Auth | None:
    if user.token_file:
        return TokenFileAuth(Path(user.token_file))
    if user.token:
        return TokenAuth(user.token)
    if user.exec:
        return ExecAuth(user.exec, folder)
    if user.username and user.password:
        return httpx2.BasicAuth(user.username, user.password)
    if user.auth_provider:
        raise ConfigurationError(f"{source}: auth-provider is not supported; use an exec credential plugin or a token")
    return None


def from_service_account(environ: Mapping[str, str]) -> Connection:
    """The connection of a Pod. Raises `ConfigurationError` where this is no Pod with a service account."""
    folder = Path(environ.get("MIZZEN_ROOTFS") or "/") / SERVICE_ACCOUNT
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    token, authority = folder / "token", folder / "ca.crt"
    if not host or not port:
        raise ConfigurationError("not in a Pod (KUBERNETES_SERVICE_HOST is not set)")
    for path in (token, authority):
        if not path.is_file():
            raise ConfigurationError(f"in a Pod, but {path} is missing")
    namespace_file = folder / "namespace"
    namespace = namespace_file.read_text().strip() if namespace_file.is_file() else "default"
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    tls = ssl.create_default_context(cafile=str(authority))
    return Connection(server, namespace, f"service account in {folder}", tls, TokenFileAuth(token))


def from_environment(
    kubeconfig: str | Path | None = None, context: str | None = None, environ: Mapping[str, str] = os.environ
) -> Connection:
    """The first of: `kubeconfig`, `$KUBECONFIG`, the Pod's service account, the Mizzen home's, `~/.kube/config`.

    A place that is named (the first two) must work; the others are passed over where nothing is there. Raises
    `ConfigurationError` naming all that was tried.
    """
    if kubeconfig:
        return from_kubeconfig(kubeconfig, context)
    if environ.get("KUBECONFIG"):
        return from_kubeconfig(environ["KUBECONFIG"], context)
    tried: list[str] = ["--kubeconfig: not given", "$KUBECONFIG: not set"]
    try:
        return from_service_account(environ)
    except ConfigurationError as error:
        tried.append(f"service account: {error}")
    home = Path(environ.get("MIZZEN_HOME") or ".mizzen")
    for path in (home / "kubeconfig", Path(environ.get("HOME") or "~").expanduser() / ".kube" / "config"):
        if path.is_file():
            return from_kubeconfig(path, context)
        tried.append(f"{path}: no such file")
    places = "".join(f"\n  {place}" for place in tried)
    raise ConfigurationError(f"no Kubernetes API to talk to; `mizzen up` starts one here. Tried:{places}")

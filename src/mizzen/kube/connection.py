"""Where the API server is and who we are: found in the places every Kubernetes program looks, and in a Mizzen home.

The kubeconfig is read and the TLS context made by lightkube. What is here is the order of places, an error that names
each of them, and the merging of several files in `KUBECONFIG` as kubectl does it.
"""

import base64
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml
from lightkube.config.client_adapter import verify_cluster
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError

from mizzen.kube.errors import ConfigurationError
from mizzen.kube.identity import Fixed, Identity, Plugin, TokenFile

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
    identity: Identity | None
    """`None`: by the certificate of `tls`, or nobody."""


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
    return Connection(chosen.cluster.server, chosen.namespace, source, tls, _identity(user, folder, source))


def _identity(user: User, folder: Path, source: str) -> Identity | None:
    if user.token_file:
        return TokenFile(Path(user.token_file))
    if user.token:
        return Fixed(f"Bearer {user.token.strip()}")
    if user.exec:
        return Plugin(user.exec, folder)
    if user.username and user.password:
        return Fixed("Basic " + base64.b64encode(f"{user.username}:{user.password}".encode()).decode())
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
    return Connection(server, namespace, f"service account in {folder}", tls, TokenFile(token))


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

"""Making resources as a file says, and telling what that would change.

Code travels with the manifests: where a resource names a Python function and no `spec.code`, the folder of its
manifest is bundled, stored once by its digest, and named. Everything is server-side applied under one field manager, so
that what others set stays theirs.
"""

import difflib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightkube.resources.core_v1 import ConfigMap

from mizzen.data.lake import code
from mizzen.data.lake.errors import LakeError
from mizzen.data.lake.objects import Store
from mizzen.kinds.errors import ManifestErrors
from mizzen.kinds.manifests import Manifest, load
from mizzen.kinds.meta import API_VERSION
from mizzen.kinds.names import SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE
from mizzen.kinds.yamltext import dump
from mizzen.kube.client import Client
from mizzen.kube.errors import NotFound
from mizzen.kube.resources import ResourceInfo, Untyped, untyped
from mizzen.sdk.lookup import discovered, lookup

FIELD_MANAGER = "mizzen"
SUFFIXES = frozenset({".yaml", ".yml", ".json"})
SERVER_SET = ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink")


class ApplyError(Exception):
    """The manifests cannot be applied; the message gives the place and what to do."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one object."""

    info: ResourceInfo
    namespace: str | None
    name: str
    change: Literal["created", "configured", "unchanged"]


def read(paths: Sequence[Path], standard_input: str | None = None) -> list[Manifest]:
    """The manifests of files and folders in order; the path `-` is `standard_input`.

    Raises `ManifestErrors` with everything wrong in any of them, `ApplyError` where a path leads nowhere.
    """
    manifests: list[Manifest] = []
    problems: list[Any] = []
    for path in paths:
        for text, source in _texts(path, standard_input):
            try:
                manifests += load(text, source)
            except ManifestErrors as errors:
                problems += errors.errors
    if problems:
        raise ManifestErrors(problems)
    if not manifests:
        raise ApplyError(f"{', '.join(map(str, paths))}: expected at least one resource, found none")
    return manifests


def _texts(path: Path, standard_input: str | None) -> list[tuple[str, str]]:
    if str(path) == "-":
        return [(standard_input or "", "standard input")]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        return [(file.read_text(errors="replace"), str(file)) for file in files]
    try:
        return [(path.read_text(errors="replace"), str(path))]
    except OSError as error:
        raise ApplyError(f"{path}: expected a manifest file or a folder of them: {error.strerror}") from error


async def store_of(client: Client) -> Store:
    """The platform's store. Raises `ApplyError` where the control plane does not know one."""
    try:
        settings = await client.get(ConfigMap, SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE)
        return Store.open((settings.data or {})["storeUrl"])
    except (NotFound, KeyError) as error:
        place = f"ConfigMap {SYSTEM_NAMESPACE}/{SETTINGS_CONFIG_MAP}"
        raise ApplyError(f"{place}: expected data.storeUrl, found none. `mizzen up` sets it.") from error


async def with_code(client: Client, manifests: Sequence[Manifest], folder: Path | None) -> dict[str, str]:
    """Bundles what the manifests need and puts its digest into their `spec.code`; the digests by folder.

    `folder` is used for all; by default each manifest's own. Raises `ApplyError`.
    """
    digests: dict[str, str] = {}
    store: Store | None = None
    for manifest in manifests:
        if not _wants_code(manifest.wire):
            continue
        project = folder or (Path(manifest.source).parent if Path(manifest.source).exists() else None)
        if project is None:
            raise ApplyError(
                f"{manifest.source}: expected --code FOLDER, since what is piped in has no folder of its own"
            )
        key = str(project.resolve())
        if key not in digests:
            store = store or await store_of(client)
            digests[key] = _bundled(store, project)
        manifest.wire["spec"]["code"] = digests[key]
    return digests


def _bundled(store: Store, project: Path) -> str:
    try:
        return code.put_bundle(store, code.bundle(project))
    except LakeError as error:
        raise ApplyError(f"{project}: the folder cannot be bundled: {error}") from error


def _wants_code(wire: dict[str, Any]) -> bool:
    spec = wire.get("spec")
    if wire.get("apiVersion") != API_VERSION or not isinstance(spec, dict) or spec.get("code"):
        return False
    source = spec.get("source")
    files = source.get("files") or () if isinstance(source, dict) else ()
    local_files = any("://" not in file for file in files)
    functions = wire.get("kind") == "FeatureView" and spec.get("request")
    named = spec.get("entrypoint") or (isinstance(source, dict) and source.get("python"))
    return bool(named or local_files or functions)


async def _resolved(
    client: Client, manifests: Sequence[Manifest], namespace: str | None
) -> AsyncIterator[tuple[ResourceInfo, Untyped]]:
    """Each manifest as an object with its resource and namespace."""
    served: dict[tuple[str, str], ResourceInfo] = {}
    for manifest in manifests:
        wire = manifest.wire
        key = (wire["apiVersion"], wire["kind"])
        if key not in served:
            served[key] = await _info_for(client, *key)
        info = served[key]
        obj = untyped(info)(wire)
        metadata = obj.setdefault("metadata", {})
        if info.namespaced:
            metadata["namespace"] = metadata.get("namespace") or namespace or client.namespace
        yield info, obj


async def _info_for(client: Client, api_version: str, kind: str) -> ResourceInfo:
    if api_version == API_VERSION:
        return await lookup(client, kind)
    group, _, version = api_version.rpartition("/")
    document = await client.request("GET", f"/apis/{api_version}" if group else f"/api/{version}")
    for resource in document.get("resources", ()):
        if resource["kind"] == kind and "/" not in resource["name"]:
            return ResourceInfo(group, version, kind, resource["name"], namespaced=resource["namespaced"])
    known = sorted({found.info.kind for found in await discovered(client)})
    near = difflib.get_close_matches(kind, known, n=1)
    raise ApplyError(f"expected a kind of {api_version}, got {kind}" + (f". Did you mean {near[0]}?" if near else ""))


async def apply(
    client: Client, manifests: Sequence[Manifest], *, namespace: str | None = None, dry_run: bool = False
) -> AsyncGenerator[Applied, None]:
    """Applies one after the other, telling of each when it is done. Raises `ApiError` on the first that is refused."""
    async for info, obj in _resolved(client, manifests, namespace):
        metadata = obj["metadata"]
        before = await _live(client, info, metadata["name"], metadata.get("namespace"))
        after = await client.apply(obj, field_manager=FIELD_MANAGER, force=True, dry_run=dry_run)
        if before is None:
            change: Literal["created", "configured", "unchanged"] = "created"
        else:
            same = _version_of(before) == _version_of(after) if not dry_run else _shown(before) == _shown(after)
            change = "unchanged" if same else "configured"
        yield Applied(info, metadata.get("namespace"), metadata["name"], change)


async def differences(client: Client, manifests: Sequence[Manifest], *, namespace: str | None = None) -> str:
    """What `apply` would change, as a unified diff of YAML; empty where nothing."""
    parts: list[str] = []
    async for info, obj in _resolved(client, manifests, namespace):
        metadata = obj["metadata"]
        before = await _live(client, info, metadata["name"], metadata.get("namespace"))
        after = await client.apply(obj, field_manager=FIELD_MANAGER, force=True, dry_run=True)
        old = _yaml(before).splitlines() if before is not None else []
        title = info.named(metadata["name"])
        parts += difflib.unified_diff(
            old, _yaml(after).splitlines(), f"{title} (now)", f"{title} (applied)", lineterm=""
        )
    return "\n".join(parts)


async def _live(client: Client, info: ResourceInfo, name: str, namespace: str | None) -> Untyped | None:
    try:
        return await client.get(untyped(info), name, namespace)
    except NotFound:
        return None


def _version_of(obj: Untyped) -> str:
    return str(obj["metadata"].get("resourceVersion", ""))


def _shown(obj: Untyped) -> dict[str, Any]:
    """The object without what only the server sets."""
    metadata = {key: value for key, value in obj["metadata"].items() if key not in SERVER_SET}
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": metadata}


def _yaml(obj: Untyped) -> str:
    return dump(_shown(obj))

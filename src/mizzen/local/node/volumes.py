"""What volumes hold: pure, from their spec and the objects they refer to. How it gets on disk is `mounts`' business.

ConfigMap, Secret, downward API and projected volumes are a set of files that is replaced as a whole when what it is
made from changes. emptyDir and hostPath are folders. Anything else this node cannot give, and says so (FailedMount).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from mizzen.local.node.environment import ConfigError, NodeFacts, field, resource
from mizzen.local.node.podspec import Json, PodSpec
from mizzen.local.node.references import Source, SourceKind, Sources, data_of

DEFAULT_MODE = 0o644
TOKEN_LIFE_S = 3607
"""What the API server's admission asks for in the volume it adds to every Pod; the least allowed is 600."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a volume."""

    data: bytes
    mode: int = DEFAULT_MODE


Payload = Mapping[str, File]
"""Relative path -> file."""


@dataclass(frozen=True, slots=True)
class TokenWanted:
    """A service-account token that a volume holds. The same want in two volumes is one token."""

    audience: str
    life_s: int


Tokens = Mapping[TokenWanted, str]


class MountError(ConfigError):
    """A volume cannot be made as it stands. Tried again later."""

    def __init__(self, volume: str, message: str) -> None:
        super().__init__(f'MountVolume.SetUp failed for volume "{volume}" : {message}', "FailedMount")


def tokens_wanted(pod: PodSpec) -> frozenset[TokenWanted]:
    """The tokens that the Pod's volumes hold."""
    return frozenset(
        _token(projection["serviceAccountToken"])
        for volume in pod.spec.get("volumes") or ()
        for projection in (volume.get("projected") or {}).get("sources") or ()
        if "serviceAccountToken" in projection
    )


def _token(projection: Json) -> TokenWanted:
    return TokenWanted(projection.get("audience") or "", int(projection.get("expirationSeconds") or 3600))


def payload(pod: PodSpec, volume: Json, sources: Sources, tokens: Tokens, facts: NodeFacts) -> Payload | None:
    """The files of a volume; `None` for a volume that is a folder. Raises `MountError`."""
    name = volume["name"]
    try:
        if "configMap" in volume:
            return _of_source(pod, "ConfigMap", volume["configMap"].get("name", ""), volume["configMap"], sources)
        if "secret" in volume:
            return _of_source(pod, "Secret", volume["secret"].get("secretName", ""), volume["secret"], sources)
        if "downwardAPI" in volume:
            return _downward(pod, volume["downwardAPI"], _mode(volume["downwardAPI"]), facts)
        if "projected" in volume:
            return _projected(pod, volume["projected"], sources, tokens, facts)
    except MountError:
        raise
    except ConfigError as error:
        raise MountError(name, str(error)) from None
    if "emptyDir" in volume or "hostPath" in volume:
        return None
    kind = next((key for key in volume if key != "name"), "emptyDir")
    if kind == "emptyDir":
        return None
    raise MountError(name, f"volumes of type {kind} are not supported by a node that runs Pods as processes")


def _mode(source: Json) -> int:
    mode = source.get("defaultMode")
    return DEFAULT_MODE if mode is None else int(mode)


def _of_source(
    pod: PodSpec, kind: SourceKind, name: str, wanted: Json, sources: Sources, default: int | None = None
) -> dict[str, File]:
    """All keys, or those that `items` names, of a ConfigMap or Secret."""
    source = Source(kind, pod.namespace, name)
    found = sources.get(source)
    if found is None:
        if wanted.get("optional"):
            return {}
        raise ConfigError(f"{kind.lower()} {name!r} not found")
    data = data_of(kind, found)
    mode = _mode(wanted) if default is None else default
    if not wanted.get("items"):
        return {key: File(value, mode) for key, value in data.items()}
    files = {}
    for item in wanted["items"]:
        if item["key"] in data:
            item_mode = item.get("mode")
            files[_safe(item["path"])] = File(data[item["key"]], mode if item_mode is None else int(item_mode))
        elif not wanted.get("optional"):
            raise ConfigError(f"references non-existent {kind.lower()} key: {item['key']}")
    return files


def _downward(pod: PodSpec, wanted: Json, default: int, facts: NodeFacts) -> dict[str, File]:
    files = {}
    for item in wanted.get("items") or ():
        if "fieldRef" in item:
            text = field(pod, item["fieldRef"].get("fieldPath", ""), facts)
        else:
            reference = item.get("resourceFieldRef") or {}
            owner = pod.container(reference.get("containerName", ""))
            if owner is None:
                raise ConfigError(f"resourceFieldRef: there is no container {reference.get('containerName')!r}")
            text = resource(pod, owner, reference, facts)
        mode = item.get("mode")
        files[_safe(item["path"])] = File(text.encode(), default if mode is None else int(mode))
    return files


def _projected(pod: PodSpec, wanted: Json, sources: Sources, tokens: Tokens, facts: NodeFacts) -> Payload:
    files: dict[str, File] = {}
    default = _mode(wanted)
    for part in _parts(pod, wanted, default, sources, tokens, facts):
        if twice := sorted(files.keys() & part.keys()):
            raise ConfigError(f"two sources write the same file {twice[0]!r}")
        files |= part
    return files


def _parts(
    pod: PodSpec, wanted: Json, default: int, sources: Sources, tokens: Tokens, facts: NodeFacts
) -> Iterator[dict[str, File]]:
    for projection in wanted.get("sources") or ():
        if "configMap" in projection:
            inner = projection["configMap"]
            yield _of_source(pod, "ConfigMap", inner.get("name", ""), inner, sources, default)
        elif "secret" in projection:
            inner = projection["secret"]
            yield _of_source(pod, "Secret", inner.get("name", ""), inner, sources, default)
        elif "downwardAPI" in projection:
            yield _downward(pod, projection["downwardAPI"], default, facts)
        elif "serviceAccountToken" in projection:
            inner = projection["serviceAccountToken"]
            token = tokens.get(_token(inner))
            if token is None:
                raise ConfigError("the service-account token has not been issued yet")
            yield {_safe(inner["path"]): File(token.encode(), default)}
        else:
            raise ConfigError(f"projected sources of type {next(iter(projection), '?')} are not supported")


def _safe(path: str) -> str:
    """A path of an item, which must stay inside its volume."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or pure.parts[0].startswith(".."):
        raise ConfigError(f"path {path!r}: expected a relative path without '..'")
    return str(pure)

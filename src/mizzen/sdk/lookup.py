"""Which resource a word means: `ie`, `endpoints`, `InferenceEndpoint`, `deploy`, `pods`.

Our own kinds are known at once; everything else is asked of the server's discovery.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mizzen.kinds import GROUP, KINDS, VERSION
from mizzen.kube.client import Client
from mizzen.kube.resources import ResourceInfo

DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


class UnknownResourceError(LookupError):
    """No resource has that name; the message says what was meant, perhaps."""


@dataclass(frozen=True, slots=True)
class Found:
    """A resource and the words for it."""

    info: ResourceInfo
    words: tuple[str, ...]


OURS = tuple(
    Found(
        ResourceInfo(GROUP, VERSION, kind.__name__, kind.plural, namespaced=True),
        (kind.plural, kind.__name__.lower(), *kind.short_names, f"{kind.plural}.{GROUP}"),
    )
    for kind in KINDS
)


async def discovered(client: Client) -> list[Found]:
    """Every resource that the server serves, the preferred version of each group."""
    found: list[Found] = []
    for path in ("/api", "/apis"):
        document = await client.request("GET", path, accept=DISCOVERY)
        for group in document.get("items", ()):
            name = (group.get("metadata") or {}).get("name", "")
            for version in group.get("versions", ())[:1]:
                found += _resources(name, version["version"], version.get("resources", ()))
    return found


def _resources(group: str, version: str, resources: Iterable[dict[str, Any]]) -> Iterable[Found]:
    for resource in resources:
        plural = resource["resource"]
        kind = resource["responseKind"]["kind"]
        info = ResourceInfo(group, version, kind, plural, namespaced=resource.get("scope") == "Namespaced")
        singular = resource.get("singularResource") or kind.lower()
        yield Found(info, (plural, singular, *resource.get("shortNames", ()), f"{plural}.{group}" if group else plural))


async def lookup(client: Client, word: str) -> ResourceInfo:
    """The resource that `word` names. Raises `UnknownResourceError`."""
    wanted = word.lower()
    for found in OURS:
        if wanted in found.words:
            return found.info
    served = await discovered(client)
    for found in served:
        if wanted in found.words:
            return found.info
    known = [known for found in (*OURS, *served) for known in found.words]
    near = difflib.get_close_matches(wanted, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else " `kubectl api-resources` lists what there is."
    raise UnknownResourceError(f"expected the name of a resource, got {word!r}.{hint}")


async def lookup_object(client: Client, words: list[str]) -> list[tuple[ResourceInfo, str]]:
    """The objects named by `ie NAME NAME…` or `ie/NAME ds/NAME…`. Raises `UnknownResourceError`."""
    if words and all("/" in word for word in words):
        pairs = [word.split("/", 1) for word in words]
        return [(await lookup(client, resource), name) for resource, name in pairs]
    if len(words) > 1:
        info = await lookup(client, words[0])
        return [(info, name) for name in words[1:]]
    raise UnknownResourceError(
        f"expected a resource and a name, such as ie/churn or ie churn, got {' '.join(words)!r}."
    )

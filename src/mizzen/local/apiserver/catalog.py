"""Which resources are served: Kubernetes' own, and those that CustomResourceDefinitions add while the server runs.

Objects are kept in one version of their resource and converted on the way in and out. The versions of a custom
resource share one form and differ in `apiVersion` alone (conversion strategy None); of Kubernetes' own, Events alone
are served in two groups with fields of other names.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from mizzen.local.apiserver.types import Json, ResourceType

EVENTS = ("", "events")
CRDS = ("apiextensions.k8s.io", "customresourcedefinitions")
_STORED_AS = {("events.k8s.io", "events"): EVENTS}


@dataclass(frozen=True, slots=True)
class Served:
    """A resource type with what serving it needs to know."""

    rtype: ResourceType
    key: tuple[str, str]
    """What its objects are stored under."""
    stored_api_version: str
    """The `apiVersion` they are stored with."""
    schema_revision: int = 0
    """The revision at which its definition last changed: older objects may lack what the schema now gives."""
    terminating: bool = False
    """The definition is being deleted: nothing new may be created."""

    @property
    def direct(self) -> bool:
        """Whether stored bytes are in this version."""
        return self.rtype.api_version == self.stored_api_version


class Catalog:
    """Changed on the event loop by `install` and `remove`; `generation` counts the changes."""

    def __init__(self, builtin: Iterable[ResourceType]) -> None:
        self._builtin: dict[tuple[str, str, str], Served] = {}
        for rtype in builtin:
            key = _STORED_AS.get(rtype.key, rtype.key)
            stored = "v1" if key == EVENTS else rtype.api_version
            self._builtin[rtype.group, rtype.version, rtype.plural] = Served(rtype, key, stored)
        self._custom: dict[str, tuple[Served, ...]] = {}
        self._served = dict(self._builtin)
        self.generation = 0

    def find(self, group: str, version: str, plural: str) -> Served | None:
        return self._served.get((group, version, plural))

    def types(self) -> list[ResourceType]:
        """Everything served, Kubernetes' own first."""
        return [served.rtype for served in self._served.values()]

    def of_key(self, key: tuple[str, str]) -> Served | None:
        """The served type in the version that objects of the key are stored with."""
        for served in self._served.values():
            if served.key == key and served.direct:
                return served
        return None

    def groups(self) -> set[str]:
        return {group for group, _, _ in self._served}

    def versions(self, group: str) -> set[str]:
        return {version for g, version, _ in self._served if g == group}

    def install(self, crd: Json, types: Iterable[ResourceType], schema_revision: int) -> None:
        """Serve what a definition says, in place of what it said before."""
        terminating = "deletionTimestamp" in crd["metadata"]
        self._custom[crd["metadata"]["name"]] = tuple(
            Served(rtype, rtype.key, f"{rtype.group}/{rtype.storage_version}", schema_revision, terminating)
            for rtype in types
        )
        self._rebuild()

    def remove(self, crd_name: str) -> None:
        if self._custom.pop(crd_name, None) is not None:
            self._rebuild()

    def _rebuild(self) -> None:
        self._served = dict(self._builtin)
        for served in self._custom.values():
            for one in served:
                self._served.setdefault((one.rtype.group, one.rtype.version, one.rtype.plural), one)
        self.generation += 1

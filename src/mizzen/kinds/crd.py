"""The CustomResourceDefinitions of our kinds, for any Kubernetes API server."""

from typing import Any

from mizzen.kinds.catalog import KINDS
from mizzen.kinds.meta import GROUP, VERSION, PrinterColumn, Resource
from mizzen.kinds.schema import structural

Json = dict[str, Any]


def crds() -> list[Json]:
    """All of them, in the order in which the kinds depend on each other."""
    return [crd_of(kind) for kind in KINDS]


def crd_of(kind: type[Resource]) -> Json:
    """The CustomResourceDefinition of one kind."""
    name = kind.__name__
    names: Json = {"plural": kind.plural, "singular": name.lower(), "kind": name, "listKind": f"{name}List"}
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    if kind.categories:
        names["categories"] = list(kind.categories)
    version: Json = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": structural(kind)},
        "subresources": _subresources(kind),
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def _subresources(kind: type[Resource]) -> Json:
    subresources: Json = {"status": {}}
    if kind.scale is not None:
        subresources["scale"] = {
            "specReplicasPath": kind.scale.spec_replicas_path,
            "statusReplicasPath": kind.scale.status_replicas_path,
            "labelSelectorPath": kind.scale.label_selector_path,
        }
    return subresources


def _column(column: PrinterColumn) -> Json:
    shown: Json = {"name": column.name, "type": column.type, "jsonPath": column.json_path}
    if column.priority:
        shown["priority"] = column.priority
    if column.description:
        shown["description"] = column.description
    return shown

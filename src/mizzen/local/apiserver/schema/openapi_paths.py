"""The paths of one served type in an OpenAPI document, for version 2 and version 3.

Only what clients look at is told: which action a method is, of which kind, and which parameters it takes.
"""

from collections.abc import Iterable

from mizzen.local.apiserver.schema.builtin import SUBRESOURCE_TYPES, SUBRESOURCE_VERBS, definition_name
from mizzen.local.apiserver.types import Json, ResourceType

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_PARAMETERS: dict[str, tuple[str, str]] = {
    "allowWatchBookmarks": ("boolean", 'Whether the watch may send events of type "BOOKMARK".'),
    "continue": ("string", "The token of the next part of a list that was asked for with limit."),
    "dryRun": ("string", "All: the request is checked and answered, and nothing is kept."),
    "fieldManager": ("string", "The name under which the fields of this request are owned."),
    "fieldSelector": ("string", "A selector to restrict the list of returned objects by their fields."),
    "fieldValidation": (
        "string",
        "Unknown and duplicate fields: Ignore drops them, Warn (the default) names them, Strict refuses the request.",
    ),
    "follow": ("boolean", "Follow the log stream of the pod."),
    "container": ("string", "The container for which to stream logs."),
    "force": ("boolean", "Take over fields that others own. Only for apply requests."),
    "gracePeriodSeconds": ("integer", "How long the object may take to end before it is deleted."),
    "labelSelector": ("string", "A selector to restrict the list of returned objects by their labels."),
    "limit": ("integer", "The most objects of one answer; the rest is read with continue."),
    "orphanDependents": ("boolean", "Deprecated: please use the propagationPolicy."),
    "previous": ("boolean", "Return previous terminated container logs."),
    "propagationPolicy": ("string", "Whether dependents are orphaned, deleted in the background or first."),
    "resourceVersion": ("string", "From when on, or how fresh at least."),
    "resourceVersionMatch": ("string", "How resourceVersion is applied to a list."),
    "sendInitialEvents": ("boolean", "Whether a watch begins with the objects there are."),
    "sinceSeconds": ("integer", "A relative time in seconds before now from which to show logs."),
    "tailLines": ("integer", "The number of lines from the end of the logs to show."),
    "timestamps": ("boolean", "Add a timestamp at the beginning of every line of log output."),
    "timeoutSeconds": ("integer", "How long a list or watch may take."),
    "watch": ("boolean", "Watch for changes instead of listing."),
}
_LISTING = (
    "allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit", "resourceVersion",
    "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch",
)  # fmt: skip
_WRITING = ("dryRun", "fieldManager", "fieldValidation")
_DELETING = ("dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy")
_LOG = ("container", "follow", "previous", "sinceSeconds", "tailLines", "timestamps")
_METHODS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "list": ("get", "list", _LISTING),
    "create": ("post", "post", _WRITING),
    "deletecollection": ("delete", "deletecollection", _LISTING),
    "get": ("get", "get", ("resourceVersion",)),
    "update": ("put", "put", _WRITING),
    "patch": ("patch", "patch", (*_WRITING, "force")),
    "delete": ("delete", "delete", _DELETING),
}
"""By verb: the HTTP method, what `x-kubernetes-action` says, and the query parameters."""
_PATCHES = ("application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json")
_STRATEGIC = "application/strategic-merge-patch+json"


def paths_of(rtype: ResourceType, schema: str, reference: str, *, v3: bool) -> Json:
    """Paths by URL; `schema` names the type's schema, `reference` is what references begin with."""
    base = f"/apis/{rtype.group}/{rtype.version}" if rtype.group else f"/api/{rtype.version}"
    scoped = f"{base}/namespaces/{{namespace}}/{rtype.plural}" if rtype.namespaced else f"{base}/{rtype.plural}"
    writer = _Writer(rtype, schema, reference, v3=v3)
    found: Json = {scoped: writer.item(("list", "create", "deletecollection"), rtype.verbs, ())}
    if rtype.namespaced and "list" in rtype.verbs:
        found[f"{base}/{rtype.plural}"] = writer.item(("list",), rtype.verbs, (), in_all=True)
    if "get" in rtype.verbs:
        found[f"{scoped}/{{name}}"] = writer.item(("get", "update", "delete", "patch"), rtype.verbs, ("name",))
    for name in sorted(rtype.subresources):
        sub = _Writer(rtype, schema, reference, v3=v3, sub=name)
        verbs = SUBRESOURCE_VERBS[name]
        found[f"{scoped}/{{name}}/{name}"] = sub.item(("get", "create", "update", "patch"), verbs, ("name",))
    return {path: item for path, item in found.items() if len(item) > 1}


class _Writer:
    """Writes the operations of one path."""

    def __init__(
        self,
        rtype: ResourceType,
        schema: str,
        reference: str,
        *,
        v3: bool,
        sub: str = "",
    ) -> None:
        self._rtype, self._reference, self._v3, self._sub = rtype, reference, v3, sub
        told = SUBRESOURCE_TYPES.get(sub, rtype)
        other = definition_name(told.group, told.version, told.kind) if told is not rtype else None
        self._schema = other or schema
        self._log = sub == "log"
        self._kind = {"group": told.group, "version": told.version, "kind": told.kind}

    def item(
        self, verbs: Iterable[str], served: Iterable[str], in_path: tuple[str, ...], *, in_all: bool = False
    ) -> Json:
        """The methods of a path, of `verbs` those that are `served`."""
        places = [*in_path, *(["namespace"] if self._rtype.namespaced and not in_all else [])]
        item: Json = {}
        for verb in verbs:
            if verb in set(served):
                method, action, parameters = _METHODS[verb]
                operation_id = f"{self._operation_id(verb)}{'ForAllNamespaces' if in_all else ''}"
                item[method] = self._operation(verb, operation_id, action, _LOG if self._log else parameters)
        item["parameters"] = [self._parameter(place, "string", f"{place} of the object", "path") for place in places]
        return item

    def _parameter(self, name: str, kind: str, description: str, where: str = "query") -> Json:
        shape: Json = (
            {"schema": {"type": kind, "uniqueItems": True}} if self._v3 else {"type": kind, "uniqueItems": True}
        )
        required = {"required": True} if where == "path" else {}
        return {"name": name, "in": where, "description": description, **required, **shape}

    def _operation(self, verb: str, operation_id: str, action: str, parameters: tuple[str, ...]) -> Json:
        listed = [self._parameter(name, *_PARAMETERS[name]) for name in parameters]
        answer = self._schema
        if verb == "list":
            answer = f"{self._schema.rpartition('.')[0]}.{self._rtype.list_kind or f'{self._rtype.kind}List'}"
        elif verb in {"delete", "deletecollection"}:
            answer = f"{_META}Status"
        reference = {"$ref": self._reference + answer}
        ok: Json = {"description": "OK"}
        types = ["text/plain"] if self._log else ["application/json", "application/yaml"]
        shape: Json = {"type": "string"} if self._log else reference
        ok |= {"content": {name: {"schema": shape} for name in types}} if self._v3 else {"schema": shape}
        operation: Json = {
            "description": f"{verb} {self._rtype.kind}",
            "operationId": operation_id,
            "parameters": listed,
            "responses": {"200": ok, "401": {"description": "Unauthorized"}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": self._kind,
        }
        self._add_body(operation, verb)
        return operation

    def _add_body(self, operation: Json, verb: str) -> None:
        if verb not in {"create", "update", "patch"}:
            return
        body, types = self._schema, ["application/json", "application/yaml"]
        if verb == "patch":
            body, types = f"{_META}Patch", [*_PATCHES, *([] if self._rtype.custom else [_STRATEGIC])]
        schema = {"$ref": self._reference + body}
        if self._v3:
            operation["requestBody"] = {"content": {name: {"schema": schema} for name in types}, "required": True}
        else:
            operation["consumes"] = types
            operation["parameters"] = [
                *operation["parameters"],
                {"name": "body", "in": "body", "required": True, "schema": schema},
            ]

    def _operation_id(self, verb: str) -> str:
        scope = "Namespaced" if self._rtype.namespaced else ""
        group = "".join(part.capitalize() for part in self._rtype.group.split(".")) or "Core"
        return f"{verb}{group}{self._rtype.version.capitalize()}{scope}{self._rtype.kind}{self._sub.capitalize()}"

"""`scale`: the replica numbers of a workload or custom resource as an `autoscaling/v1` Scale.

A Scale is a view. Writing it writes the object at the path that its type names, with all the checks an update has.
"""

from typing import Any

from mizzen.local.apiserver.catalog import Served
from mizzen.local.apiserver.conversion import read
from mizzen.local.apiserver.errors import BadRequest, InternalError
from mizzen.local.apiserver.request import Request
from mizzen.local.apiserver.schema import strict
from mizzen.local.apiserver.schema.builtin import SUBRESOURCE_TYPES
from mizzen.local.apiserver.store import Record
from mizzen.local.apiserver.types import Json, ScalePaths
from mizzen.local.apiserver.verbs.bodies import body_of, checked
from mizzen.local.apiserver.verbs.context import Context, One
from mizzen.local.apiserver.verbs.listing import not_found
from mizzen.local.apiserver.verbs.options import write_options
from mizzen.local.apiserver.verbs.patching import APPLY_PATCH, MERGE_PATCH, patch_type, patched_document
from mizzen.local.apiserver.verbs.write import Write, start
from mizzen.local.apiserver.verbs.writing import update_object

_SCALE = SUBRESOURCE_TYPES["scale"]


async def get(context: Context, served: Served, request: Request) -> One:
    assert request.target is not None
    record = context.store.get(served.key, request.target.namespace, request.target.name)
    if record is None:
        raise not_found(served, request.target.name)
    return One(None, made=scale_of(served, read(served, record)))


async def update(context: Context, served: Served, request: Request) -> One:
    write = start(context, served, request, write_options(request, "UpdateOptions"), "scale")
    replaced = _newest(write)
    scale = body_of(request, _SCALE, write.options)
    return await _write(write, replaced, scale)


async def patch(context: Context, served: Served, request: Request) -> One:
    kind = patch_type(request, custom=False)
    write = start(context, served, request, write_options(request, "PatchOptions", apply=kind == APPLY_PATCH), "scale")
    replaced = _newest(write)
    document = scale_of(served, read(served, replaced))
    # An apply of a Scale says how many replicas there shall be, and nothing else: that is what a merge patch does.
    body = request.body
    if kind == APPLY_PATCH:
        applied, _ = strict.parse_object(body, APPLY_PATCH, _SCALE)
        scale = {**document, "spec": {**document["spec"], **(applied.get("spec") or {})}}
    else:
        scale = patched_document(body, document, kind or MERGE_PATCH, _SCALE.schema)
    return await _write(write, replaced, checked(request, _SCALE, write.options, scale))


def _newest(write: Write) -> Record:
    assert write.request.target is not None
    name = write.request.target.name
    replaced = write.context.store.head(write.served.key, write.namespace, name)
    if replaced is None:
        raise not_found(write.served, name)
    return replaced


async def _write(write: Write, replaced: Record, scale: Json) -> One:
    paths = _paths(write.served)
    obj = read(write.served, replaced)
    wanted = scale.get("metadata") or {}
    if wanted.get("name", replaced.name) != replaced.name:
        raise BadRequest(
            f"the name of the object ({wanted['name']}) does not match the name on the URL ({replaced.name})"
        )
    for field in ("resourceVersion", "uid"):
        if wanted.get(field):
            obj["metadata"][field] = wanted[field]
    _set(obj, paths.spec, (scale.get("spec") or {}).get("replicas", 0))
    result = await update_object(write, replaced, obj, track=_is_owned(obj, paths.spec))
    written = result.made if result.record is None else read(write.served, result.record)
    assert written is not None
    return One(None, made=scale_of(write.served, written))


def _is_owned(obj: Json, path: str) -> bool:
    """Whether some manager has the field. If none has, a Scale makes nobody its owner, as in Kubernetes."""
    for entry in obj["metadata"].get("managedFields") or ():
        fields = entry.get("fieldsV1")
        for name in path.strip(".").split("."):
            fields = fields.get(f"f:{name}") if isinstance(fields, dict) else None
        if fields is not None:
            return True
    return False


def scale_of(served: Served, obj: Json) -> Json:
    """The Scale of an object."""
    paths, metadata = _paths(served), obj["metadata"]
    shown = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    replicas = _get(obj, paths.spec)
    status: Json = {"replicas": _get(obj, paths.status) or 0}
    selector = _selector(served, obj, paths)
    if selector:
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {field: metadata[field] for field in shown if field in metadata},
        "spec": {"replicas": replicas} if replicas else {},
        "status": status,
    }


def _paths(served: Served) -> ScalePaths:
    if served.rtype.scale is None:
        raise InternalError(f"{served.rtype.plural} does not say where its replicas are")
    return served.rtype.scale


def _selector(served: Served, obj: Json, paths: ScalePaths) -> str:
    """As text; a workload has it as an object, a custom resource at its path."""
    if served.rtype.custom:
        value = _get(obj, paths.selector) if paths.selector else None
        return value if isinstance(value, str) else ""
    selector = (obj.get("spec") or {}).get("selector") or {}
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for requirement in selector.get("matchExpressions") or ():
        key, values = requirement.get("key"), ",".join(sorted(requirement.get("values") or ()))
        match requirement.get("operator"):
            case "In":
                parts.append(f"{key} in ({values})")
            case "NotIn":
                parts.append(f"{key} notin ({values})")
            case "Exists":
                parts.append(f"{key}")
            case "DoesNotExist":
                parts.append(f"!{key}")
    return ",".join(sorted(parts, key=lambda part: part.lstrip("!")))


def _get(obj: Json, path: str) -> Any:
    value: Any = obj
    for name in path.strip(".").split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _set(obj: Json, path: str, value: Any) -> None:
    *parents, last = path.strip(".").split(".")
    for name in parents:
        obj = obj.setdefault(name, {})
    obj[last] = value

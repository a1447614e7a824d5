"""Bodies that are no objects of the resource they are sent to: `Scale`, `Binding`, `Eviction`, reviews, token requests."""

from mizzen.local.apiserver.errors import BadRequest
from mizzen.local.apiserver.http.request import Request
from mizzen.local.apiserver.schema import causes, strict, structural
from mizzen.local.apiserver.types import Json, ResourceType
from mizzen.local.apiserver.verbs.options import WriteOptions
from mizzen.local.apiserver.verbs.writing import media_type


def body_of(request: Request, rtype: ResourceType, options: WriteOptions) -> Json:
    """The body as an object of that type: of its kind, without unknown fields, defaulted and valid."""
    obj, duplicates = strict.parse_object(request.body, media_type(request), rtype)
    return checked(request, rtype, options, obj, duplicates)


def checked(
    request: Request, rtype: ResourceType, options: WriteOptions, obj: Json, duplicates: tuple[str, ...] = ()
) -> Json:
    kind, version = obj.get("kind") or rtype.kind, obj.get("apiVersion") or rtype.api_version
    if (kind, version) != (rtype.kind, rtype.api_version):
        raise BadRequest(f"expected {rtype.api_version}, Kind={rtype.kind} in the body, got {version}, Kind={kind}")
    obj = {**obj, "kind": kind, "apiVersion": version}
    obj, warnings = strict.admit(rtype, obj, duplicates, options.field_validation)
    for warning in warnings:
        request.warn(warning)
    obj = structural.default(rtype.schema, obj)
    problems = structural.validate(rtype.schema, obj)
    if problems:
        name = (obj.get("metadata") or {}).get("name", "")
        raise causes.invalid_error(rtype.kind, rtype.group, name, problems)
    return obj

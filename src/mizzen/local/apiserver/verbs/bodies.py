"""Reading bodies: an object of the resource, or something else that its subresources take.

Whatever is read is of the kind expected, and without fields that its schema does not know.
"""

from mizzen.local.apiserver.errors import BadRequest, UnsupportedMediaType
from mizzen.local.apiserver.request import Request
from mizzen.local.apiserver.schema import causes, strict, structural
from mizzen.local.apiserver.types import Json, ResourceType
from mizzen.local.apiserver.verbs.options import WriteOptions
from mizzen.local.apiserver.verbs.write import Write

_MEDIA_TYPES = frozenset({"", "application/json", "application/yaml", "text/yaml", "application/x-yaml"})


def decode_body(write: Write) -> Json:
    """The object in the body: of the right kind, unknown fields pruned and told as the options say."""
    request, rtype = write.request, write.served.rtype
    obj, duplicates = strict.parse_object(request.body, media_type(request), rtype)
    _check_kind(rtype, obj)
    return checked_fields(write, obj, duplicates)


def media_type(request: Request) -> str:
    """The type of a body that is an object; UnsupportedMediaType when it is no JSON and no YAML."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in _MEDIA_TYPES:
        raise UnsupportedMediaType(
            "the body of the request was in an unknown format - accepted media types include: application/json, "
            "application/yaml, application/vnd.kubernetes.protobuf"
        )
    return given or "application/json"


def checked_fields(write: Write, obj: Json, duplicates: tuple[str, ...] = ()) -> Json:
    """The object without unknown fields; they are an error or a warning, as the options say."""
    obj, warnings = strict.admit(write.served.rtype, obj, duplicates, write.options.field_validation)
    for warning in warnings:
        write.request.warn(warning)
    if not isinstance(obj.get("metadata"), dict):
        obj["metadata"] = {}
    return obj


def tell_duplicates(write: Write, duplicates: tuple[str, ...]) -> None:
    """Fields that come twice are an error or a warning, as the options say."""
    rtype, validation = write.served.rtype, write.options.field_validation
    if duplicates and validation == "Strict":
        raise BadRequest(
            f'{rtype.kind} in version "{rtype.version}" cannot be handled as a {rtype.kind}: strict decoding error: '
            + ", ".join(duplicates)
        )
    if validation == "Warn":
        for duplicate in duplicates:
            write.request.warn(duplicate)


def _check_kind(rtype: ResourceType, obj: Json) -> None:
    kind, version = obj.get("kind") or "", obj.get("apiVersion") or ""
    if rtype.custom and (not kind or not version):
        missing = "Kind" if not kind else "apiVersion"
        raise BadRequest(
            f"the object provided is unrecognized (must be of type {rtype.kind}): Object '{missing}' is missing"
        )
    if (version or rtype.api_version) != rtype.api_version:
        given = str(version).rpartition("/")[2]
        raise BadRequest(
            f'{kind} in version "{given}" cannot be handled as a {rtype.kind}: no kind "{kind}" is registered for '
            f'version "{version}" here; expected "{rtype.api_version}"'
        )
    if (kind or rtype.kind) != rtype.kind:
        package = rtype.group.partition(".")[0] or "core"
        raise BadRequest(
            f'{kind} in version "{rtype.version}" cannot be handled as a {rtype.kind}: converting '
            f"({rtype.version}.{kind}) to ({package}.{rtype.kind}): unknown conversion"
        )
    obj["kind"], obj["apiVersion"] = rtype.kind, rtype.api_version


def match_namespace(write: Write, metadata: Json) -> None:
    namespace = metadata.get("namespace", "")
    if namespace and write.namespace and namespace != write.namespace:
        raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
    if write.namespace:
        metadata["namespace"] = write.namespace
    else:
        metadata.pop("namespace", None)


# Bodies of another kind: `Scale`, `Binding`, `Eviction`, reviews, token requests.


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

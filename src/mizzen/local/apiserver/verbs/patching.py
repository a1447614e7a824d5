"""The four patches, told apart by content type; each is applied to the newest state and then written like an update.

    application/json-patch+json              RFC 6902
    application/merge-patch+json             RFC 7386
    application/strategic-merge-patch+json   Kubernetes' own types only
    application/apply-patch+yaml             server-side apply, which creates what is not there

A patch that names a resourceVersion is only applied to that version. One that names none cannot conflict: reading the
newest state, patching it and handing over to the store is one step.
"""

import msgspec

from mizzen.local.apiserver.catalog import Served
from mizzen.local.apiserver.conversion import read
from mizzen.local.apiserver.errors import BadRequest, Conflict, UnsupportedMediaType
from mizzen.local.apiserver.patch import json_patch, managed, merge, strategic
from mizzen.local.apiserver.request import Request
from mizzen.local.apiserver.schema import causes, strict
from mizzen.local.apiserver.store import Record
from mizzen.local.apiserver.strategies.base import timestamp
from mizzen.local.apiserver.types import Json, qualified
from mizzen.local.apiserver.verbs.bodies import checked_fields, match_namespace, tell_duplicates
from mizzen.local.apiserver.verbs.context import Context, One
from mizzen.local.apiserver.verbs.listing import not_found
from mizzen.local.apiserver.verbs.options import write_options
from mizzen.local.apiserver.verbs.write import Write, default, start
from mizzen.local.apiserver.verbs.writing import create_object, require_create, update_object

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


def patch_type(request: Request, *, custom: bool) -> str:
    """The content type of a patch; UnsupportedMediaType when the resource does not take it."""
    media_type = request.headers.get("content-type", "").split(";")[0].strip()
    accepted = (
        [JSON_PATCH, MERGE_PATCH, APPLY_PATCH] if custom else [JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH]
    )
    if media_type in accepted:
        return media_type
    if media_type == STRATEGIC_PATCH:
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
        )
    raise UnsupportedMediaType("415: Unsupported Media Type")


async def patch(context: Context, served: Served, request: Request) -> One:
    assert request.target is not None
    kind = patch_type(request, custom=served.rtype.custom)
    options = write_options(request, "PatchOptions", apply=kind == APPLY_PATCH)
    write = start(context, served, request, options, request.target.subresource)
    name = request.target.name
    replaced = context.store.head(served.key, write.namespace, name)
    if kind == APPLY_PATCH:
        return await _apply(write, name, replaced)
    if replaced is None:
        raise not_found(served, name)
    document = read(served, replaced)
    patched = patched_document(request.body, document, kind, served.rtype.schema)
    _check_identity(write, patched, document)
    patched = checked_fields(write, patched)
    match_namespace(write, patched["metadata"])
    return await update_object(write, replaced, default(write, patched))


def patched_document(body: bytes, document: Json, kind: str, schema: Json) -> Json:
    """The document after a JSON, merge or strategic merge patch."""
    try:
        change = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"error decoding patch: {error}") from error
    if kind == JSON_PATCH:
        if not isinstance(change, list):
            raise BadRequest(
                "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
            )
        result = json_patch.apply(document, change)
    elif kind == MERGE_PATCH:
        result = merge.apply(document, change)
    else:
        result = strategic.apply(document, change, schema)
    if not isinstance(result, dict):
        raise BadRequest("the patch does not leave an object")
    return result


def _check_identity(write: Write, patched: Json, document: Json) -> None:
    """A patch may not turn the object into another."""
    rtype = write.served.rtype
    if (patched.get("kind"), patched.get("apiVersion")) != (rtype.kind, rtype.api_version):
        found = f"{patched.get('apiVersion')}, Kind={patched.get('kind')}"
        detail = f"expected {rtype.api_version}, Kind={rtype.kind}: a patch cannot make another kind of it"
        name = document["metadata"]["name"]
        raise causes.invalid_error(rtype.kind, rtype.group, name, [causes.invalid("patch", found, detail)])
    metadata = patched.get("metadata")
    if not isinstance(metadata, dict):
        raise BadRequest("the patch does not leave metadata")
    name = document["metadata"]["name"]
    if metadata.get("name", name) != name:
        raise BadRequest(f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})")
    # The resourceVersion of the document is no precondition of the client's: only one the patch changed is.


async def _apply(write: Write, name: str, replaced: Record | None) -> One:
    served, request = write.served, write.request
    rtype = served.rtype
    applied, duplicates = strict.parse_object(request.body, APPLY_PATCH, rtype)
    if (applied.get("kind"), applied.get("apiVersion")) != (rtype.kind, rtype.api_version):
        version = applied.get("apiVersion") or ""
        given = version if "/" in version else f"/{version}"
        raise BadRequest(f"invalid object type: {given}, Kind={applied.get('kind') or ''}")
    # Unknown fields are refused by the merge itself, whatever the field validation: ownership needs to know each.
    tell_duplicates(write, duplicates)
    metadata = applied.setdefault("metadata", {})
    match_namespace(write, metadata)
    if metadata.get("name", name) != name:
        raise BadRequest(f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})")
    metadata["name"] = name
    if "managedFields" in metadata:
        raise BadRequest("metadata.managedFields must be nil")
    if replaced is None:
        if write.subresource:
            raise not_found(served, name)
        if metadata.get("uid"):
            raise Conflict(
                f'Operation cannot be fulfilled on {qualified(served.key)} "{name}": uid mismatch: the provided object '
                f"specified uid {metadata['uid']}, and no existing object was found",
                name=name,
                group=served.key[0],
                kind=served.key[1],
            )
        require_create(write)
    live = None if replaced is None else read(served, replaced)
    merged = managed.apply(
        live,
        applied,
        schema=rtype.schema,
        manager=write.options.field_manager,
        force=write.options.force,
        api_version=rtype.api_version,
        subresource=write.subresource,
        now=timestamp(write.context.now()),
        reset=managed.reset_by(rtype, write.subresource),
    )
    if replaced is None:
        return await create_object(write, merged, track=False)
    return await update_object(write, replaced, default(write, merged), track=False)

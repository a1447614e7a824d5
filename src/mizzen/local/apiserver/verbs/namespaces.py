"""`namespaces/finalize`: whoever cleared a namespace takes their name off its `spec.finalizers`."""

from mizzen.local.apiserver.catalog import Served
from mizzen.local.apiserver.request import Request
from mizzen.local.apiserver.verbs.bodies import decode_body
from mizzen.local.apiserver.verbs.context import Context, One
from mizzen.local.apiserver.verbs.listing import not_found
from mizzen.local.apiserver.verbs.options import write_options
from mizzen.local.apiserver.verbs.write import start, track_fields
from mizzen.local.apiserver.verbs.writing import check_revision, check_uid, store_update


async def finalize(context: Context, served: Served, request: Request) -> One:
    assert request.target is not None
    write = start(context, served, request, write_options(request, "UpdateOptions"), "finalize")
    sent = decode_body(write)
    replaced = context.store.head(served.key, "", request.target.name)
    if replaced is None:
        raise not_found(served, request.target.name)
    old, obj = replaced.object(), replaced.object()
    check_uid(write, sent["metadata"], old["metadata"])
    check_revision(write, sent["metadata"], old["metadata"])
    obj["spec"] = {**obj.get("spec", {}), "finalizers": (sent.get("spec") or {}).get("finalizers") or []}
    if not obj["spec"]["finalizers"]:
        del obj["spec"]["finalizers"]
    return await store_update(write, replaced, track_fields(write, old, obj), old)

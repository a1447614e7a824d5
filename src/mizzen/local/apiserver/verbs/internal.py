"""The server's own writes: the same way as everybody's, as `system:apiserver`."""

from mizzen.local.apiserver.catalog import Served
from mizzen.local.apiserver.errors import AlreadyExists, NotFound
from mizzen.local.apiserver.request import Query, Request, Target
from mizzen.local.apiserver.store import Record
from mizzen.local.apiserver.types import Json, User
from mizzen.local.apiserver.verbs import deleting, writing
from mizzen.local.apiserver.verbs.context import Context, One
from mizzen.local.apiserver.verbs.options import WriteOptions
from mizzen.local.apiserver.verbs.write import Write, default, start

USER = User("system:apiserver", ("system:masters",))
_MANAGER = "kube-apiserver"


def _write(context: Context, resource: tuple[str, str, str], namespace: str, subresource: str = "") -> Write:
    group, version, plural = resource
    served = context.catalog.find(group, version, plural)
    if served is None:
        raise NotFound(f"{plural}.{group}/{version} is not served")
    return _write_to(context, served, namespace, subresource)


def _write_to(context: Context, served: Served, namespace: str, subresource: str = "") -> Write:
    rtype = served.rtype
    target = Target(rtype.group, rtype.version, rtype.plural, namespace, "", subresource)
    request = Request("POST", "", Query(""), "", {}, USER, "create", target)
    options = WriteOptions(dry_run=False, field_manager=_MANAGER, field_validation="Strict")
    return start(context, served, request, options, subresource)


async def create_missing(context: Context, resource: tuple[str, str, str], obj: Json) -> None:
    """Create an object unless there is one of its name."""
    namespace = obj["metadata"].get("namespace", "")
    write = _write(context, resource, namespace)
    if context.store.head(write.served.key, namespace, obj["metadata"]["name"]) is None:
        try:
            await writing.create_object(write, obj)
        except AlreadyExists:
            return


async def update(context: Context, resource: tuple[str, str, str], obj: Json, subresource: str = "") -> One:
    """Write an object over the newest state of the same name."""
    metadata = obj["metadata"]
    write = _write(context, resource, metadata.get("namespace", ""), subresource)
    replaced = context.store.head(write.served.key, write.namespace, metadata["name"])
    if replaced is None:
        raise NotFound(f'{resource[2]} "{metadata["name"]}" not found')
    return await writing.update_object(write, replaced, default(write, obj))


async def delete_record(context: Context, served: Served, record: Record) -> None:
    """Delete an object if it is still there; what it owns goes after it."""
    replaced = context.store.head(served.key, record.namespace, record.name)
    if replaced is not None:
        write = _write_to(context, served, record.namespace)
        await deleting.delete_object(write, replaced, deleting.DeleteOptions(policy="Background"))

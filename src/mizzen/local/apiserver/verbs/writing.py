"""Create and update.

    body ─> decoded, unknown fields pruned, defaulted ─> managedFields ─> admission ─> strategy ─> checks ─> store

This is the order in which Kubernetes goes about it, which clients can see: what admission fills in belongs to no field
manager, and what it fills in is checked like what the client wrote. Nothing here waits between reading the newest state
and handing over to the store, so the state that was checked is the state that is written over.
"""

from mizzen.local.apiserver.catalog import Served
from mizzen.local.apiserver.conversion import read, to_stored
from mizzen.local.apiserver.errors import ApiError, BadRequest, Conflict, Forbidden
from mizzen.local.apiserver.patch import managed
from mizzen.local.apiserver.request import Request
from mizzen.local.apiserver.schema import causes, structural
from mizzen.local.apiserver.schema import metadata as metadata_rules
from mizzen.local.apiserver.store import Record
from mizzen.local.apiserver.strategies.base import keep, timestamp
from mizzen.local.apiserver.types import Attributes, Json, qualified
from mizzen.local.apiserver.verbs.bodies import decode_body, match_namespace
from mizzen.local.apiserver.verbs.context import Context, One
from mizzen.local.apiserver.verbs.listing import not_found
from mizzen.local.apiserver.verbs.options import write_options
from mizzen.local.apiserver.verbs.write import Write, admit, default, ordered, refuse, start, track_fields

_GENERATED_NAME_BASE_MAX = 58
_GENERATE_TRIES = 8
_SERVER_SET = ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")


# Create.


async def create(context: Context, served: Served, request: Request) -> One:
    write = start(context, served, request, write_options(request, "CreateOptions"))
    obj = decode_body(write)
    metadata = obj["metadata"]
    if metadata.get("resourceVersion") and not write.options.dry_run:
        raise ApiError("resourceVersion should not be set on objects to be created")
    match_namespace(write, metadata)
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = _generate_name(write, metadata["generateName"])
    return await create_object(write, obj)


def _terminating(write: Write, obj: Json) -> Forbidden:
    group, plural = write.served.key
    name = obj["metadata"].get("name", "")
    return Forbidden(
        f'{qualified((group, plural))} "{name}" is forbidden: create not allowed while custom resource definition is '
        "terminating",
        name=name,
        group=group,
        kind=plural,
    )


def _generate_name(write: Write, base: str) -> str:
    """A name that is free, within reason: after some tries the conflict is the client's to see."""
    name = ""
    for _ in range(_GENERATE_TRIES):
        name = base[:_GENERATED_NAME_BASE_MAX] + write.context.name_suffix()
        if write.context.store.head(write.served.key, write.namespace, name) is None:
            break
    return name


async def create_object(write: Write, obj: Json, *, track: bool = True) -> One:
    """Create a decoded object. `track`: managedFields are still to be computed (an apply has done so)."""
    if write.served.terminating:
        raise _terminating(write, obj)
    if write.keeps_status and not write.strategy.takes_status:
        obj.pop("status", None)
    obj = default(write, obj)
    metadata = obj["metadata"]
    for field in (*_SERVER_SET, "generation", "resourceVersion"):
        metadata.pop(field, None)
    if track:
        obj = _track_created(write, obj)
    obj = admit(write, "CREATE", obj, None)
    metadata = obj["metadata"]
    metadata["uid"] = write.context.new_uid()
    metadata["creationTimestamp"] = timestamp(write.context.now())
    if write.strategy.generation:
        metadata["generation"] = 1
    around = write.around
    write.strategy.prepare_create(obj, around)
    problems = metadata_rules.check(write.served.rtype, metadata)
    problems += structural.validate(write.served.rtype.schema, obj)
    problems += write.strategy.validate(obj, around)
    problems += write.strategy.validate_create(obj, around)
    refuse(write, metadata.get("name", ""), problems)
    for warning in write.strategy.warnings(obj, None):
        write.request.warn(warning)
    if write.options.dry_run:
        write.context.store.check_absent(write.served.key, write.namespace, metadata["name"])
        return One(write.served, made=ordered(obj), status=201)
    stored = to_stored(write.served, ordered(obj))
    record = await write.context.store.create(write.served.key, write.namespace, metadata["name"], stored)
    return One(write.served, record, status=201)


def _track_created(write: Write, obj: Json) -> Json:
    """managedFields of a new object; a status that comes with it is nobody's."""
    if not write.keeps_status or "status" not in obj:
        return track_fields(write, None, obj)
    rest = {name: value for name, value in obj.items() if name != "status"}
    return {**track_fields(write, None, rest), "status": obj["status"]}


def require_create(write: Write) -> None:
    """An update or apply that creates needs the right to create."""
    rtype, name = write.served.rtype, write.request.target.name if write.request.target else ""
    attributes = Attributes("create", rtype.group, rtype.version, rtype.plural, namespace=write.namespace, name=name)
    write.context.require(write.request.user, attributes)


# Update.


async def update(context: Context, served: Served, request: Request) -> One:
    assert request.target is not None
    write = start(context, served, request, write_options(request, "UpdateOptions"), request.target.subresource)
    obj = decode_body(write)
    metadata = obj["metadata"]
    match_namespace(write, metadata)
    name = request.target.name
    if not metadata.get("name"):
        raise BadRequest(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
    if metadata["name"] != name:
        raise BadRequest(f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})")
    replaced = context.store.head(served.key, write.namespace, name)
    if replaced is None:
        if write.strategy.create_on_update and not write.subresource and not metadata.get("resourceVersion"):
            require_create(write)
            return await create_object(write, obj)
        raise not_found(served, name)
    check_uid(write, metadata, replaced.object()["metadata"])
    return await update_object(write, replaced, default(write, obj))


async def update_object(write: Write, replaced: Record, obj: Json, *, track: bool = True) -> One:
    """Write a whole, defaulted object over a stored one, in its main part or a subresource."""
    served, strategy = write.served, write.strategy
    old = read(served, replaced)
    metadata, old_metadata = obj["metadata"], old["metadata"]
    check_revision(write, metadata, old_metadata)
    _keep_metadata(metadata, old_metadata)
    around = write.around
    if write.subresource == "status":
        strategy.prepare_status(obj, old, around)
    elif write.keeps_status:
        keep(obj, old, ("status",))
    if track:
        obj = track_fields(write, old, obj)
    obj = admit(write, "UPDATE", obj, old)
    if write.subresource != "status":
        strategy.prepare_update(obj, old, around)
    metadata = obj["metadata"]
    if strategy.generation and write.subresource != "status":
        changed = strategy.spec_changed(obj, old, served.rtype)
        metadata["generation"] = old_metadata.get("generation", 0) + changed
    problems = metadata_rules.check_update(metadata, old_metadata)
    problems += structural.validate(served.rtype.schema, obj, "", old)
    if write.subresource == "status":
        problems += strategy.validate_status(obj, old, around)
    else:
        problems += strategy.validate(obj, around)
        problems += strategy.validate_update(obj, old, around)
    refuse(write, metadata["name"], problems)
    if not write.subresource:
        for warning in strategy.warnings(obj, old):
            write.request.warn(warning)
    return await store_update(write, replaced, obj, old)


async def store_update(write: Write, replaced: Record, obj: Json, old: Json) -> One:
    """Hand a checked update to the store: a deletion if it removed the last finalizer, nothing if nothing changed."""
    store, served = write.context.store, write.served
    obj["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
    if managed.settled(old, obj) == old:
        return One(served, replaced)
    if write.options.dry_run:
        return One(served, made=ordered(obj))
    stored = to_stored(served, ordered(obj))
    if is_finalized(served, obj):
        record = await store.delete(served.key, stored, replaced)
    else:
        record = await store.update(served.key, stored, replaced)
    return One(served, record)


def is_finalized(served: Served, obj: Json) -> bool:
    """Whether an object that is being deleted has nothing left to wait for."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if served.key == ("", "namespaces"):
        return not obj.get("spec", {}).get("finalizers")
    return not metadata.get("deletionGracePeriodSeconds")


def check_uid(write: Write, metadata: Json, old: Json) -> None:
    """A PUT that names another uid is for another object."""
    key, name, uid = write.served.key, old["name"], metadata.get("uid")
    if uid and uid != old["uid"]:
        raise Conflict(
            f'Operation cannot be fulfilled on {qualified(key)} "{name}": Precondition failed: UID in precondition: '
            f"{uid}, UID in object meta: {old['uid']}",
            name=name,
            group=key[0],
            kind=key[1],
        )


def check_revision(write: Write, metadata: Json, old: Json) -> None:
    """An update is for the revision it names; without one, for any, where the type allows that."""
    key, name, revision = write.served.key, old["name"], metadata.get("resourceVersion")
    if not revision and not write.strategy.unconditional_update:
        raise causes.invalid_error(
            key[1], key[0], name, [causes.invalid("metadata.resourceVersion", 0, "must be specified for an update")]
        )
    if revision and revision != old["resourceVersion"]:
        raise Conflict(
            f'Operation cannot be fulfilled on {qualified(key)} "{name}": the object has been modified; please apply '
            "your changes to the latest version and try again",
            name=name,
            group=key[0],
            kind=key[1],
        )


def _keep_metadata(metadata: Json, old: Json) -> None:
    """What an update cannot change is as it was, whether it says so or not."""
    metadata.setdefault("uid", old["uid"])
    for field in ("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
        if field in old:
            metadata[field] = old[field]
    if old.get("generateName") and not metadata.get("generateName"):
        metadata["generateName"] = old["generateName"]
    if "generation" not in old:
        metadata.pop("generation", None)
    metadata.pop("selfLink", None)

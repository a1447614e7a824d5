"""Delete and deletecollection.

Who waits for what decides whether an object goes at once. Finalizers, those of the propagation policy among them, and
the grace period of a Pod keep it, marked with `deletionTimestamp`; the update that takes the last of them away
removes it (`writing.store_update`). A Namespace stays until its `spec.finalizers` are empty.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mizzen.local.apiserver.catalog import CRDS, Served
from mizzen.local.apiserver.conversion import read, to_stored
from mizzen.local.apiserver.errors import BadRequest, Cause, Conflict
from mizzen.local.apiserver.request import Request
from mizzen.local.apiserver.schema import causes, strict
from mizzen.local.apiserver.store import Record
from mizzen.local.apiserver.strategies.base import timestamp
from mizzen.local.apiserver.types import Json
from mizzen.local.apiserver.verbs.bodies import media_type
from mizzen.local.apiserver.verbs.context import Context, Many, One
from mizzen.local.apiserver.verbs.listing import Matcher, not_found, selection
from mizzen.local.apiserver.verbs.options import WriteOptions, default_manager, dry_run_of
from mizzen.local.apiserver.verbs.write import Write, admit, ordered, start

NAMESPACES = ("", "namespaces")
CRD_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
_POLICIES = ("Foreground", "Background", "Orphan")


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    dry_run: bool = False
    grace_period_s: int | None = None
    policy: str | None = None
    uid: str | None = None
    resource_version: str | None = None


def delete_options(request: Request) -> DeleteOptions:
    """From the body if there is one, else from the query."""
    query = request.query
    given: Json = {}
    if request.body.strip():
        given = _body(request)
    else:
        if (grace := query.integer("gracePeriodSeconds")) is not None:
            given["gracePeriodSeconds"] = grace
        for name in ("propagationPolicy", "orphanDependents"):
            if name in query:
                given[name] = query.flag(name) if name == "orphanDependents" else query.get(name)
    return options_of(given, request)


def options_of(given: Json, request: Request) -> DeleteOptions:
    """Checked options; a dry run may also be asked for in the query."""
    found: list[Cause] = []
    policy, orphan = given.get("propagationPolicy"), given.get("orphanDependents")
    if policy is not None and orphan is not None:
        found.append(
            causes.invalid("propagationPolicy", policy, "orphanDependents and deletionPropagation cannot be both set")
        )
    if policy is not None and policy not in _POLICIES:
        found.append(causes.not_supported("propagationPolicy", policy, [*_POLICIES, "nil"]))
    dry_run = dry_run_of(given.get("dryRun") or request.query.all("dryRun"), found)
    if found:
        raise causes.invalid_error("DeleteOptions", "meta.k8s.io", "", found)
    if orphan is not None:
        policy = "Orphan" if orphan else "Background"
    wanted = given.get("preconditions") or {}
    return DeleteOptions(
        dry_run, given.get("gracePeriodSeconds"), policy, wanted.get("uid"), wanted.get("resourceVersion")
    )


def _body(request: Request) -> Json:
    try:
        given = strict.parse(request.body, media_type(request)).value
    except strict.MalformedError as error:
        raise BadRequest(f"the body of the request cannot be read as DeleteOptions: {error}") from error
    if not isinstance(given, dict) or given.get("kind", "DeleteOptions") != "DeleteOptions":
        raise BadRequest("expected DeleteOptions in the body of a delete")
    return given


def _start(context: Context, served: Served, request: Request, options: DeleteOptions) -> Write:
    write_options = WriteOptions(options.dry_run, default_manager(request.user_agent), "Ignore")
    return start(context, served, request, write_options)


async def delete(context: Context, served: Served, request: Request) -> One:
    assert request.target is not None
    options = delete_options(request)
    write = _start(context, served, request, options)
    replaced = context.store.head(served.key, write.namespace, request.target.name)
    if replaced is None:
        raise not_found(served, request.target.name)
    result, gone = await delete_object(write, replaced, options)
    if gone and not write.strategy.returns_deleted:
        return One(None, made=_deleted_status(write, result))
    return result


async def delete_collection(context: Context, served: Served, request: Request) -> Many:
    """Delete all that is selected, one by one, each as if it were asked for alone."""
    assert request.target is not None
    options = delete_options(request)
    write = _start(context, served, request, options)
    chosen = selection(served, write.namespace, request.query)
    matches = Matcher(served, chosen)
    selected = [record for record in context.store.head_records(served.key, chosen.namespace) if matches(record)]
    deleted = []
    for record in sorted(selected, key=lambda record: (record.namespace, record.name)):
        newest = context.store.head(served.key, record.namespace, record.name)
        if newest is not None:
            one = write._replace(namespace=record.namespace)
            await delete_object(one, newest, options)
            deleted.append(newest)
    return Many(served, deleted, {"resourceVersion": str(context.store.revision)})


def _deleted_status(write: Write, result: One) -> Json:
    metadata = result.record.object()["metadata"] if result.record else (result.made or {})["metadata"]
    group, plural = write.served.rtype.key
    details = {"name": metadata["name"], **({"group": group} if group else {}), "kind": plural, "uid": metadata["uid"]}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


async def delete_object(write: Write, replaced: Record, options: DeleteOptions) -> tuple[One, bool]:
    """Delete or mark one object. Says what is left, or was last there, and whether it is gone."""
    served = write.served
    old = read(served, replaced)
    _check_preconditions(write, old, options)
    admit(write, "DELETE", old, old)
    obj = read(served, replaced)
    gone = _mark(write, obj, options)
    if obj == old and not gone:
        return One(served, replaced), False
    if write.options.dry_run:
        return One(served, made=ordered(obj)), gone
    stored = to_stored(served, ordered(obj))
    store = write.context.store
    if gone:
        return One(served, await store.delete(served.key, stored, replaced)), True
    return One(served, await store.update(served.key, stored, replaced)), False


def _check_preconditions(write: Write, old: Json, options: DeleteOptions) -> None:
    metadata, rtype = old["metadata"], write.served.rtype
    kind = f"{rtype.kind}.{rtype.group}" if rtype.group else rtype.kind
    for what, wanted, found, advice in (
        ("UID", options.uid, metadata["uid"], "The object might have been deleted and then recreated"),
        (
            "ResourceVersion",
            options.resource_version,
            metadata["resourceVersion"],
            "The object might have been modified",
        ),
    ):
        if wanted is not None and wanted != found:
            raise Conflict(
                f'Operation cannot be fulfilled on {kind} "{metadata["name"]}": the {what} in the precondition '
                f"({wanted}) does not match the {what} in record ({found}). {advice}",
                name=metadata["name"],
                group=rtype.group,
                kind=rtype.kind,
            )


def _mark(write: Write, obj: Json, options: DeleteOptions) -> bool:
    """Mark the object as its type and finalizers have it; True when nothing keeps it."""
    metadata, now = obj["metadata"], write.context.now()
    if write.served.key == NAMESPACES:
        return _mark_namespace(obj, now, options)
    deleting = bool(metadata.get("deletionTimestamp"))
    if write.strategy.graceful and deleting and metadata.get("deletionGracePeriodSeconds"):
        if not _shorten(metadata, now, options):
            return False
        grace_s = metadata["deletionGracePeriodSeconds"]
    else:
        grace_s = 0 if deleting else write.strategy.grace_period_s(obj, options.grace_period_s)
    if write.strategy.owns:
        _set_finalizers(metadata, options)
    if write.served.key == CRDS and not deleting:
        metadata["finalizers"] = [*metadata.get("finalizers", ()), CRD_FINALIZER]
    if not metadata.get("finalizers"):
        metadata.pop("finalizers", None)
    kept = bool(metadata.get("finalizers")) or grace_s > 0
    if (kept or write.strategy.graceful) and not deleting:
        if metadata.get("generation"):
            metadata["generation"] += 1
        metadata["deletionTimestamp"] = timestamp(now + timedelta(seconds=grace_s))
        metadata["deletionGracePeriodSeconds"] = grace_s
    elif kept and grace_s == 0:
        metadata["deletionGracePeriodSeconds"] = 0
    return not kept


def _shorten(metadata: Json, now: datetime, options: DeleteOptions) -> bool:
    """Give an object that is ending less time; False when it has no more than asked for."""
    had, wanted = metadata["deletionGracePeriodSeconds"], options.grace_period_s
    if wanted is None or wanted >= had:
        return False
    wanted = 1 if wanted < 0 else wanted
    ends = datetime.fromisoformat(metadata["deletionTimestamp"]) + timedelta(seconds=wanted - had)
    if ends < now:
        ends, wanted = now.astimezone(UTC), 1 if wanted else 0
    metadata["deletionTimestamp"], metadata["deletionGracePeriodSeconds"] = timestamp(ends), wanted
    return True


def _set_finalizers(metadata: Json, options: DeleteOptions) -> None:
    """The finalizers of the propagation policy; what is set already stays when none is asked for."""
    if options.policy is None:
        return
    finalizers = [name for name in metadata.get("finalizers") or () if name not in {ORPHAN, FOREGROUND}]
    if options.policy == "Orphan":
        finalizers.append(ORPHAN)
    elif options.policy == "Foreground":
        finalizers.append(FOREGROUND)
    if finalizers or metadata.get("finalizers"):
        metadata["finalizers"] = finalizers


def _mark_namespace(obj: Json, now: datetime, options: DeleteOptions) -> bool:
    metadata = obj["metadata"]
    if metadata.get("deletionTimestamp"):
        return not obj.get("spec", {}).get("finalizers") and not metadata.get("finalizers")
    _set_finalizers(metadata, options)
    metadata["deletionTimestamp"] = timestamp(now)
    obj.setdefault("status", {})["phase"] = "Terminating"
    return False

"""What only Pods have: binding to a node, and eviction."""

from mizzen.local.apiserver.catalog import Served
from mizzen.local.apiserver.errors import BadRequest, Conflict
from mizzen.local.apiserver.request import Request
from mizzen.local.apiserver.schema.builtin import SUBRESOURCE_TYPES
from mizzen.local.apiserver.strategies.base import timestamp
from mizzen.local.apiserver.types import Json
from mizzen.local.apiserver.verbs import deleting
from mizzen.local.apiserver.verbs.bodies import body_of
from mizzen.local.apiserver.verbs.context import Context, One
from mizzen.local.apiserver.verbs.listing import not_found
from mizzen.local.apiserver.verbs.options import write_options
from mizzen.local.apiserver.verbs.write import Write, start, track_fields
from mizzen.local.apiserver.verbs.writing import store_update

_DONE = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


async def bind(context: Context, served: Served, request: Request) -> One:
    """`pods/binding`: the scheduler's decision, taken once."""
    assert request.target is not None
    write = start(context, served, request, write_options(request, "CreateOptions"), "binding")
    binding = body_of(request, SUBRESOURCE_TYPES["binding"], write.options)
    return await _bind(write, binding, request.target.name)


async def bind_by_name(context: Context, served: Served, request: Request) -> One:
    """A Binding posted to `bindings`, which names its Pod itself."""
    pods = context.catalog.find("", "v1", "pods")
    assert pods is not None
    write = start(context, pods, request, write_options(request, "CreateOptions"), "binding")
    binding = body_of(request, served.rtype, write.options)
    return await _bind(write, binding, (binding.get("metadata") or {}).get("name", ""))


async def _bind(write: Write, binding: Json, name: str) -> One:
    store, served = write.context.store, write.served
    replaced = store.head(served.key, write.namespace, name)
    if replaced is None:
        raise not_found(served, name)
    target = binding.get("target") or {}
    if target.get("kind") not in {None, "", "Node"} or not target.get("name"):
        raise BadRequest('target: a binding must name a node: {"kind": "Node", "name": "..."}')
    old, obj = replaced.object(), replaced.object()
    _check(old, binding, name)
    obj["spec"]["nodeName"] = target["name"]
    annotations = {
        **(obj["metadata"].get("annotations") or {}),
        **((binding.get("metadata") or {}).get("annotations") or {}),
    }
    if annotations:
        obj["metadata"]["annotations"] = annotations
    _set_scheduled(obj, timestamp(write.context.now()))
    await store_update(write, replaced, track_fields(write, old, obj), old)
    return One(None, made=_DONE, status=201)


def _check(pod: Json, binding: Json, name: str) -> None:
    metadata = pod["metadata"]
    wanted = (binding.get("metadata") or {}).get("uid")
    problem = ""
    if wanted and wanted != metadata["uid"]:
        problem = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {metadata['uid']}"
    elif metadata.get("deletionTimestamp"):
        problem = f"pod {name} is being deleted, cannot be assigned to a host"
    elif pod["spec"].get("nodeName"):
        problem = f'pod {name} is already assigned to node "{pod["spec"]["nodeName"]}"'
    elif pod["spec"].get("schedulingGates"):
        problem = f"pod {name} has non-empty .spec.schedulingGates"
    if problem:
        raise Conflict(
            f'Operation cannot be fulfilled on pods/binding "{name}": {problem}', name=name, kind="pods/binding"
        )


def _set_scheduled(pod: Json, now: str) -> None:
    status = pod.setdefault("status", {})
    conditions = [c for c in status.get("conditions") or () if c.get("type") != "PodScheduled"]
    generation = {"observedGeneration": pod["metadata"]["generation"]} if pod["metadata"].get("generation") else {}
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
    status["conditions"] = [*conditions, {**scheduled, **generation}]


async def evict(context: Context, served: Served, request: Request) -> One:
    """`pods/eviction`: a delete that a disruption budget could refuse; there are none here."""
    assert request.target is not None
    options = write_options(request, "CreateOptions")
    write = start(context, served, request, options, "eviction")
    eviction = body_of(request, SUBRESOURCE_TYPES["eviction"], options)
    name = request.target.name
    if (eviction.get("metadata") or {}).get("name", name) != name:
        raise BadRequest(
            f"name in URL does not match name in Eviction object: {name} != {eviction['metadata']['name']}"
        )
    replaced = context.store.head(served.key, write.namespace, name)
    if replaced is None:
        raise not_found(served, name)
    delete_options = deleting.options_of(eviction.get("deleteOptions") or {}, request)
    await deleting.delete_object(write, replaced, delete_options)
    return One(None, made=_DONE, status=201)

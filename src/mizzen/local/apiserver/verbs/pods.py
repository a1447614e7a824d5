"""What only Pods have: binding to a node."""

from mizzen.local.apiserver.catalog import Served
from mizzen.local.apiserver.errors import BadRequest, Conflict
from mizzen.local.apiserver.http.request import Request
from mizzen.local.apiserver.schema import strict
from mizzen.local.apiserver.strategies.base import timestamp
from mizzen.local.apiserver.types import Json
from mizzen.local.apiserver.verbs.context import Context, One
from mizzen.local.apiserver.verbs.listing import not_found
from mizzen.local.apiserver.verbs.options import write_options
from mizzen.local.apiserver.verbs.writing import start, store_update

_STATUS_OK = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


async def bind(context: Context, served: Served, request: Request) -> One:
    """`pods/binding`: the scheduler's decision, taken once."""
    assert request.target is not None
    write = start(context, served, request, write_options(request, "CreateOptions"), "binding")
    binding = strict.parse(request.body, request.headers.get("content-type", "application/json")).value
    name = request.target.name
    target = (binding.get("target") or {}).get("name", "")
    if not target:
        raise BadRequest("binding.target.name: a binding must name its node")
    replaced = context.store.head(served.key, write.namespace, name)
    if replaced is None:
        raise not_found(served, name)
    old, obj = replaced.object(), replaced.object()
    _check(old, binding, name)
    obj["spec"]["nodeName"] = target
    obj["metadata"]["annotations"] = {
        **(obj["metadata"].get("annotations") or {}),
        **((binding.get("metadata") or {}).get("annotations") or {}),
    }
    if not obj["metadata"]["annotations"]:
        del obj["metadata"]["annotations"]
    _set_scheduled(obj, timestamp(context.now()))
    await store_update(write, replaced, obj, old)
    return One(None, made=_STATUS_OK, status=201)


def _check(pod: Json, binding: Json, name: str) -> None:
    metadata = pod["metadata"]
    problem = ""
    if metadata.get("deletionTimestamp"):
        problem = f"pod {name} is being deleted, cannot be assigned to a host"
    elif pod["spec"].get("nodeName"):
        problem = f'pod {name} is already assigned to node "{pod["spec"]["nodeName"]}"'
    elif pod["spec"].get("schedulingGates"):
        problem = f"pod {name} has non-empty .spec.schedulingGates"
    wanted = (binding.get("metadata") or {}).get("uid")
    if wanted and wanted != metadata["uid"]:
        problem = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {metadata['uid']}"
    if problem:
        raise Conflict(
            f'Operation cannot be fulfilled on pods/binding "{name}": {problem}', name=name, kind="pods/binding"
        )


def _set_scheduled(pod: Json, now: str) -> None:
    status = pod.setdefault("status", {})
    conditions = [c for c in status.get("conditions") or () if c.get("type") != "PodScheduled"]
    conditions.append({"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now})
    status["conditions"] = conditions

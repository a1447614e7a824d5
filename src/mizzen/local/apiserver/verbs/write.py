"""A write on its way, and the steps that all writes share."""

from typing import Any, NamedTuple

from mizzen.local.apiserver.catalog import Served
from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.patch import managed
from mizzen.local.apiserver.request import Request
from mizzen.local.apiserver.schema import causes, structural
from mizzen.local.apiserver.strategies.base import Strategy, Surroundings, timestamp
from mizzen.local.apiserver.strategies.registry import strategy_of
from mizzen.local.apiserver.types import AdmissionContext, Json
from mizzen.local.apiserver.verbs.context import Context
from mizzen.local.apiserver.verbs.options import WriteOptions


class Write(NamedTuple):
    """A write on its way: what is written to, by whom, and how."""

    context: Context
    served: Served
    strategy: Strategy
    request: Request
    options: WriteOptions
    namespace: str
    subresource: str = ""

    @property
    def around(self) -> Surroundings:
        def newest(key: tuple[str, str]) -> list[Json]:
            return [record.object() for record in self.context.store.head_records(key)]

        return Surroundings(self.served.rtype, self.context.now(), newest)

    @property
    def keeps_status(self) -> bool:
        """Whether status changes through its subresource only."""
        return "status" in self.served.rtype.subresources


def start(context: Context, served: Served, request: Request, options: WriteOptions, subresource: str = "") -> Write:
    assert request.target is not None
    namespace = request.target.namespace if served.rtype.namespaced else ""
    return Write(context, served, strategy_of(served), request, options, namespace, subresource)


def default(write: Write, obj: Json) -> Json:
    return structural.default(write.served.rtype.schema, obj)


def track_fields(write: Write, old: Json | None, obj: Json) -> Json:
    return managed.updated(
        old,
        obj,
        schema=write.served.rtype.schema,
        manager=write.options.field_manager,
        operation="Update",
        api_version=write.served.rtype.api_version,
        subresource=write.subresource,
        now=timestamp(write.context.now()),
        reset=managed.reset_by(write.served.rtype, write.subresource),
    )


def admit(write: Write, operation: Any, obj: Json, old: Json | None) -> Json:
    metadata = obj["metadata"]
    context = AdmissionContext(
        operation=operation,
        rtype=write.served.rtype,
        subresource=write.subresource,
        namespace=write.namespace,
        name=metadata.get("name", ""),
        user=write.request.user,
        old=old,
        dry_run=write.options.dry_run,
        reader=write.context.reader,
        now=write.context.now(),
        warn=write.request.warn,
    )
    for plugin in write.context.admission:
        obj = plugin(context, obj)
    return obj


def refuse(write: Write, name: str, problems: list[Cause]) -> None:
    """Raise when anything is wrong."""
    if problems:
        rtype = write.served.rtype
        raise causes.invalid_error(rtype.kind, rtype.group, name, list(dict.fromkeys(problems)))


def ordered(obj: Json) -> Json:
    """Kubernetes' order: kind, apiVersion, metadata, then the rest as it is."""
    return {"kind": obj["kind"], "apiVersion": obj["apiVersion"], "metadata": obj["metadata"], **obj}

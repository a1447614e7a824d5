"""Objects between the version asked for and the version kept.

The versions of a custom resource differ in `apiVersion` alone. `events.k8s.io/v1` names the fields of a core Event
differently; both are one object in one place, as in Kubernetes.

An object that was written before its definition last changed is read as if it had been written after: with the
defaults that came since, and without the fields that went. The stored bytes stay as they are until it is written again.
"""

from mizzen.local.apiserver.catalog import EVENTS, Served
from mizzen.local.apiserver.schema import events, structural
from mizzen.local.apiserver.store import Record
from mizzen.local.apiserver.store.records import encode
from mizzen.local.apiserver.types import Json


def to_stored(served: Served, obj: Json) -> Json:
    """An object of the served version as it is kept: the same object when that is no different."""
    if served.direct:
        return obj
    return events.to_core(obj) if served.key == EVENTS else {**obj, "apiVersion": served.stored_api_version}


def read(served: Served, record: Record) -> Json:
    """A kept object in the served version; the caller may change it."""
    obj = record.object()
    if record.revision < served.schema_revision:
        schema = served.rtype.schema
        obj = structural.default(schema, structural.prune(schema, obj)[0])
    if served.direct:
        return obj
    return events.from_core(obj) if served.key == EVENTS else {**obj, "apiVersion": served.rtype.api_version}


def read_bytes(served: Served, record: Record) -> bytes:
    """A kept object in the served version, as JSON: the stored bytes wherever they are just that."""
    if served.direct and record.revision >= served.schema_revision:
        return record.encoded
    return encode(read(served, record))

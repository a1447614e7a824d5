"""Objects between the version asked for and the version kept.

The versions of a custom resource differ in `apiVersion` alone. `events.k8s.io/v1` names the fields of a core Event
differently; both are one object in one place, as in Kubernetes.
"""

from mizzen.local.apiserver.catalog import EVENTS, Served
from mizzen.local.apiserver.schema import events
from mizzen.local.apiserver.types import Json


def to_stored(served: Served, obj: Json) -> Json:
    """An object of the served version as it is kept: the same object when that is no different."""
    if served.direct:
        return obj
    return events.to_core(obj) if served.key == EVENTS else {**obj, "apiVersion": served.stored_api_version}


def from_stored(served: Served, obj: Json) -> Json:
    """A kept object in the served version."""
    if served.direct:
        return obj
    return events.from_core(obj) if served.key == EVENTS else {**obj, "apiVersion": served.rtype.api_version}

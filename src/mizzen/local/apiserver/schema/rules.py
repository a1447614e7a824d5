"""What Kubernetes does to its own types in Go and publishes in no schema: defaults and checks, by definition.

An expanded schema names the definition of each object in `DEFINITION`; compiling it looks up here what belongs to it.
The defaults are in `defaults`, the checks in `pod_checks`, `scheduling_checks`, `network_checks`, `object_checks` and
`events`, what becomes of zeros in `zeros`.
"""

import functools
from collections.abc import Callable, Iterable

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import (
    defaults,
    events,
    metadata,
    names,
    network_checks,
    object_checks,
    pod_checks,
    zeros,
)
from mizzen.local.apiserver.schema.causes import invalid, required
from mizzen.local.apiserver.types import Json

DEFINITION = "x-mizzen-definition"
"""In an expanded schema: the name of the definition an object schema came from."""

Check = Callable[[Json], Iterable[Cause]]
"""What is wrong with an object; fields are named from the object on (empty for itself)."""
_CHECKS: dict[str, Check] = {**pod_checks.CHECKS, **network_checks.CHECKS, **object_checks.CHECKS, **events.CHECKS}


def short_name(definition: str) -> str:
    """`core.v1.Pod` of `io.k8s.api.core.v1.Pod`."""
    return ".".join(definition.split(".")[-3:])


@functools.cache
def fill_of(definition: str) -> Callable[[Json], Json] | None:
    """What is added to an object of that definition where nothing is said; `None` for nothing ever."""
    return defaults.fill_of(short_name(definition))


@functools.cache
def check_of(definition: str) -> Check | None:
    """What is checked of an object of that definition beside its schema; `None` for nothing."""
    return _CHECKS.get(short_name(definition))


def zeros_of(definition: str, schema: Json) -> tuple[frozenset[str], frozenset[str]]:
    """The fields of an object of that definition that are left out when they are zero, and those that are null."""
    name = short_name(definition)
    return zeros.left_out(name, schema), zeros.null(name)


def embedded_resource(value: Json) -> Iterable[Cause]:
    """What an object inside an object (`x-kubernetes-embedded-resource`) must have."""
    for name in ("apiVersion", "kind"):
        if name not in value:
            yield required(name)
        elif not isinstance(value[name], str):
            yield invalid(name, value[name], "must be a string")
        elif not value[name]:
            yield invalid(name, "", "must not be empty")
    kind, meta = value.get("kind"), value.get("metadata")
    if isinstance(kind, str) and kind and (errors := names.dns_1035_label(kind.lower())):
        yield invalid("kind", kind, f"may have mixed case, but should otherwise match: {','.join(errors)}")
    if meta is not None and not metadata.is_typed(meta):
        yield invalid("metadata", meta, "must be the metadata of an object")
    elif meta:
        name = meta.get("name", "")
        yield from (invalid("metadata.name", name, text) for text in names.path_segment(name))
        yield from metadata.contents(meta, "metadata")

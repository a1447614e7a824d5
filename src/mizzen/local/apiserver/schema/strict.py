"""Request bodies to objects: JSON and YAML, with the fields that are there twice, unknown, or of the wrong type.

A body that repeats itself exactly when it is encoded again has no duplicate fields; that settles the question for
bodies from most clients in a few microseconds. Others are read once more, slowly. `admit` then does what Kubernetes
does by `fieldValidation`: `Strict` refuses what is unknown or there twice, `Warn` names it in warnings, `Ignore` drops
it.
"""

import json
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec

from mizzen.kinds.yamltext import as_number
from mizzen.local.apiserver.errors import BadRequest
from mizzen.local.apiserver.schema import yamlbody
from mizzen.local.apiserver.schema.causes import quoted
from mizzen.local.apiserver.schema.mistyped import mistyped
from mizzen.local.apiserver.schema.structural import node_of, prune
from mizzen.local.apiserver.types import Json, ResourceType

_YAML_TYPES = frozenset({"application/yaml", "application/apply-patch+yaml", "text/yaml", "application/x-yaml"})


_decoder = msgspec.json.Decoder(float_hook=as_number)


@dataclass(frozen=True, slots=True)
class Body:
    """A decoded body and its duplicate fields, each as Kubernetes words it (`duplicate field "spec.foo"`)."""

    value: Any
    duplicates: tuple[str, ...] = ()


class MalformedError(ValueError):
    """The body is no JSON or YAML; the message is Go's, near enough."""


def parse(body: bytes, media_type: str = "application/json") -> Body:
    """Reads a body of that media type (parameters such as `;charset=` are ignored).

    Raises `MalformedError`.
    """
    if media_type.partition(";")[0].strip().lower() in _YAML_TYPES and not body.lstrip().startswith(b"{"):
        return _parse_yaml(body)
    try:
        value = _decoder.decode(body)
    except msgspec.DecodeError as error:
        if media_type.partition(";")[0].strip().lower() in _YAML_TYPES:
            return _parse_yaml(body)
        raise MalformedError(_as_go(error)) from error
    except RecursionError as error:
        raise MalformedError("exceeded max depth") from error
    if not isinstance(value, dict | list) or msgspec.json.encode(value) == body:
        return Body(value)
    return Body(value, tuple(f'duplicate field "{path}"' for path in _duplicates(body)))


def _parse_yaml(body: bytes) -> Body:
    try:
        value, repeated = yamlbody.load(body)
    except yamlbody.YamlError as error:
        raise MalformedError(f"yaml: {error}") from error
    if not repeated:
        return Body(value)
    listed = tuple(f'line {line}: key "{key}" already set in map' for line, key in repeated)
    return Body(value, listed)


def _as_go(error: msgspec.DecodeError) -> str:
    text = str(error)
    return "unexpected end of JSON input" if "truncated" in text else f"invalid character: {text}"


class _Pairs(list[tuple[str, Any]]):
    """An object with all its pairs, also those that repeat a key."""


def _tree(body: bytes) -> Any:
    return json.loads(body, object_pairs_hook=_Pairs)


def _duplicates(body: bytes) -> list[str]:
    found: list[str] = []
    _walk(_tree(body), "", found)
    return found


def _walk(tree: Any, path: str, found: list[str]) -> None:
    """Notes each repeated key by its path in `found`."""
    if isinstance(tree, _Pairs):
        seen = set()
        for key, value in tree:
            place = f"{path}.{key}" if path else key
            if key in seen:
                found.append(place)
            seen.add(key)
            _walk(value, place, found)
    elif isinstance(tree, list):
        for index, item in enumerate(tree):
            _walk(item, f"{path}[{index}]", found)


def parse_object(body: bytes, media_type: str, rtype: ResourceType) -> tuple[Json, tuple[str, ...]]:
    """The object in a body that should hold one of that type, and its duplicate fields.

    Raises `BadRequest`.
    """
    try:
        parsed = parse(body, media_type)
    except MalformedError as error:
        _unrecognized(rtype, f"json parse error: {error}", body)
    if parsed.value is None:
        return {}, ()
    if not isinstance(parsed.value, dict):
        kind = {list: "array", str: "string", bool: "bool"}.get(parsed.value.__class__, "number")
        into = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
        _unrecognized(rtype, f"json parse error: json: cannot unmarshal {kind} into Go value of type {into}", body)
    return parsed.value, parsed.duplicates


def _unrecognized(rtype: ResourceType, reason: str, body: bytes) -> NoReturn:
    shown = body[:30].decode(errors="replace") + (" ..." if len(body) > 30 else "")
    start = f"the object provided is unrecognized (must be of type {rtype.kind}): couldn't get version/kind"
    raise BadRequest(f"{start}; {reason} ({shown or '<empty>'})")


def admit(
    rtype: ResourceType, obj: Json, duplicates: tuple[str, ...] = (), field_validation: str = "Warn"
) -> tuple[Json, list[str]]:
    """The object without unknown fields, and warnings about what was wrong (under `Warn`).

    Raises `BadRequest` where a value of a built-in type (or metadata) has the wrong JSON type, and under `Strict` where
    fields are unknown or there twice.
    """
    schema = rtype.schema
    if not node_of(schema).accepts(obj) and (reason := mistyped(rtype, obj)):
        raise BadRequest(_cannot(rtype, reason))
    pruned, unknown = prune(schema, obj)
    if not unknown and not duplicates:
        return pruned, []
    texts = [*duplicates, *(f"unknown field {quoted(path)}" for path in unknown)]
    if field_validation == "Strict":
        if duplicates and duplicates[0].startswith("line "):
            texts[: len(duplicates)] = ["yaml: unmarshal errors:\n  " + "\n  ".join(duplicates)]
        raise BadRequest(_cannot(rtype, f"strict decoding error: {', '.join(texts)}"))
    return pruned, texts if field_validation == "Warn" else []


def _cannot(rtype: ResourceType, reason: str) -> str:
    return f'{rtype.kind} in version "{rtype.version}" cannot be handled as a {rtype.kind}: {reason}'

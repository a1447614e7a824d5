"""Rules in CEL (`x-kubernetes-validations`): what a custom resource must fulfil beyond types, and across its fields.

A rule sees its value as `self`, typed by the schema, and on an update what was there before as `oldSelf`. Rules are
asked only of objects that are valid otherwise. One that was false before the update and of whose value nothing changed
is not reported, so that a new rule does not lock the objects that are there; one that names `oldSelf` is asked only
where there is an old value.

CEL is evaluated by the library `common-expression-language`; Kubernetes' own functions are in `cel_functions`. Weaker
than Kubernetes: a rule's types are found out when it runs and not when it is declared, its cost is not limited, and a
rule that uses a library that is not here (`LATER`) is kept and not asked, which a warning says at its declaration.
"""

import base64
import datetime as dt
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import causes, formats
from mizzen.local.apiserver.schema.cel_functions import FUNCTIONS, LATER
from mizzen.local.apiserver.schema.cel_library import cel
from mizzen.local.apiserver.schema.nodes import MISSING, RULES, Node, items_before, same
from mizzen.local.apiserver.types import Json

_PROGRAMS_MAX = 4096
_RESERVED = frozenset({
    "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let",
    "loop", "package", "namespace", "return", "var", "void", "while",
})  # fmt: skip
_ESCAPES = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__"))
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_FIELD = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\['((?:[^'\\]|\\.)*)'\]", re.ASCII)
_SCALARS = (str, int, float, bool)
_ROOT_FIELDS = ("apiVersion", "kind", "metadata")
_METADATA_FIELDS = ("name", "generateName")
_FAILURES = (KeyError, IndexError, ValueError, TypeError, RuntimeError, ArithmeticError)
"""What the library raises when a rule meets a value that it was not made for."""


class RuleError(ValueError):
    """A rule is no CEL; the message says where."""


@lru_cache(_PROGRAMS_MAX)
def program(rule: str) -> "cel.Program":
    """The rule, compiled. Raises `RuleError`."""
    try:
        return cel.compile(rule)
    except ValueError as error:
        text = str(error)
        raise RuleError(text[found.start() :] if (found := re.search("ERROR:", text)) else text) from error


@lru_cache(_PROGRAMS_MAX)
def missing_library(rule: str) -> str | None:
    """A function that the rule calls and Kubernetes has, but not we."""
    called = set(program(rule).functions())
    return next((name for name in sorted(LATER) if name.rpartition(".")[2] in called), None)


@lru_cache(_PROGRAMS_MAX)
def _functions(rule: str) -> tuple[str, ...]:
    """Those of Kubernetes that the rule may call: `sets.contains` is told as `contains`."""
    called = set(program(rule).functions())
    return tuple(name for name in FUNCTIONS if name.rpartition(".")[2] in called)


@lru_cache(_PROGRAMS_MAX)
def _names_old(rule: str) -> bool:
    return "oldSelf" in program(rule).variables()


def check(node: Node, obj: Json, old: Any = MISSING) -> list[Cause]:
    """The rules that the whole object breaks, in the order of the schema."""
    return list(_check(node, obj, old, ""))


def _check(node: Node, value: Any, old: Any, path: str) -> Iterator[Cause]:
    if not node.ruled:
        return
    declared = node.schema.get(RULES) or ()
    unchanged = old is not MISSING and same(value, old)
    if declared and value is not None:
        seen = _seen(node, value, root=not path)
        before = _seen(node, old, root=not path) if old is not MISSING and old is not None else MISSING
        for rule in declared:
            cause = _broken(rule, value, seen, before, path, unchanged=unchanged)
            if cause is not None:
                yield cause
    if isinstance(value, dict):
        was = old if isinstance(old, dict) else {}
        for name, sub in node.properties.items():
            if name in value:
                yield from _check(sub, value[name], was.get(name, MISSING), causes.child(path, name))
        if node.additional is not None:
            for name in sorted(value.keys() - node.properties.keys()):
                yield from _check(node.additional, value[name], was.get(name, MISSING), f"{path}[{name}]")
    elif isinstance(value, list) and node.items is not None:
        item_before = items_before(node.schema, old)
        for index, item in enumerate(value):
            yield from _check(node.items, item, item_before(index, item), f"{path}[{index}]")


def _broken(rule: Json, value: Any, seen: Any, before: Any, path: str, *, unchanged: bool) -> Cause | None:
    text = rule["rule"].strip()
    if missing_library(text) is not None:
        return None
    variables = {"self": seen}
    if _names_old(text):
        if rule.get("optionalOldSelf"):
            variables["oldSelf"] = cel.OptionalValue.none() if before is MISSING else cel.OptionalValue.of(before)
        elif before is MISSING:
            return None
        else:
            variables["oldSelf"] = before
    elif unchanged:
        return None
    try:
        held = _answer(text, variables)
    except _FAILURES as error:
        kind = "array" if isinstance(value, list) else "object" if isinstance(value, dict) else value
        return causes.invalid(path or causes.NO_FIELD, kind, f"{_said(error)} evaluating rule: {text}")
    if held is True:
        return None
    reason, place = rule.get("reason") or "FieldValueInvalid", _place(path, rule.get("fieldPath") or "")
    return _cause(reason, place or causes.NO_FIELD, value, _message(rule, text, variables))


def _message(rule: Json, text: str, variables: Mapping[str, Any]) -> str:
    expression = (rule.get("messageExpression") or "").strip()
    if expression and missing_library(expression) is None:
        try:
            said = _answer(expression, variables)
        except _FAILURES:
            said = None
        if isinstance(said, str) and said.strip() and "\n" not in said.strip():
            return said.strip()
    return (rule.get("message") or "").strip() or f"failed rule: {text}"


def _cause(reason: str, place: str, value: Any, message: str) -> Cause:
    if reason == "FieldValueRequired":
        return causes.required(place, message)
    if reason == "FieldValueForbidden":
        return causes.forbidden(place, message)
    if reason == "FieldValueDuplicate":
        return causes.duplicate(place, value)
    if isinstance(value, _SCALARS):
        return causes.invalid(place, value, message)
    return Cause("FieldValueInvalid", f"Invalid value: {message}", place)


def _place(path: str, relative: str) -> str:
    for name, quoted in _FIELD.findall(relative):
        path = causes.child(path, name or quoted.replace("\\'", "'"))
    return path


def _said(error: Exception) -> str:
    """The library's words, or Kubernetes' where those can be told."""
    if isinstance(error, KeyError):
        return f"no such key: {error.args[0]}"
    if isinstance(error, ZeroDivisionError):
        return "division by zero"
    text = str(error)
    if (found := re.search(r"[Ii]ndex out of bounds: (\d+)", text)) is not None:
        return f"index out of bounds: {found[1]}"
    return text


def _answer(rule: str, variables: Mapping[str, Any]) -> Any:
    context = cel.Context(dict(variables))
    for name in _functions(rule):
        context.add_function(name, FUNCTIONS[name])
    return program(rule).execute(context)


def _seen(node: Node, value: Any, *, root: bool = False) -> Any:
    """The value as CEL has it: fields that the schema knows, under names that CEL can say, typed by the schema.

    Lists that are sets, or maps by keys, are compared whatever their order: they are put into one.
    """
    if isinstance(value, dict):
        fields = {
            escaped: _seen(sub, value[name])
            for name, sub in node.properties.items()
            if name in value and (escaped := _escaped(name)) is not None
        }
        if node.additional is not None:
            fields |= {
                name: _seen(node.additional, item) for name, item in value.items() if name not in node.properties
            }
        return fields | _identity(value) if root or node.embedded else fields
    if isinstance(value, list):
        items = value if node.items is None else [_seen(node.items, item) for item in value]
        return _ordered(node.schema, items)
    if isinstance(value, str):
        return _text(node.schema.get("format", ""), value)
    if node.schema.get("type") == "number" and not isinstance(value, bool) and value is not None:
        return float(value)
    return value


def _identity(value: Json) -> Json:
    found: Json = {name: value[name] for name in _ROOT_FIELDS if name in value}
    metadata = value.get("metadata") or {}
    found["metadata"] = {name: metadata[name] for name in _METADATA_FIELDS if name in metadata}
    return found


def _ordered(schema: Json, items: list[Any]) -> list[Any]:
    keys, kind = schema.get("x-kubernetes-list-map-keys"), schema.get("x-kubernetes-list-type")
    if kind == "set":
        return sorted(items, key=repr)
    if kind == "map" and keys:
        return sorted(items, key=lambda item: repr([item.get(_escaped(key)) for key in keys]))
    return items


def _text(form: str, value: str) -> Any:
    if form == "date-time" and formats.is_rfc3339(value):
        return dt.datetime.fromisoformat(value)
    if form == "date":
        return dt.datetime.fromisoformat(value).replace(tzinfo=dt.UTC)
    if form == "byte":
        return base64.b64decode(value)
    if form == "duration":
        return cel.evaluate("duration(self)", {"self": value})
    return value


def _escaped(name: str) -> str | None:
    """The name by which CEL can say the field; `None` where it cannot."""
    if name in _RESERVED:
        return f"__{name}__"
    for character, word in _ESCAPES:
        name = name.replace(character, word)
    return name if _IDENTIFIER.fullmatch(name) else None


def check_declared(rules: list[Json], path: str) -> Iterator[Cause]:
    """What is wrong with the rules of one sub-schema as they are declared."""
    for index, rule in enumerate(rules):
        place = f"{path}.{RULES}[{index}]"
        for field in ("rule", "messageExpression"):
            text = (rule.get(field) or "").strip()
            if not text:
                if field == "rule":
                    yield causes.required(f"{place}.rule", "rule is not specified")
                continue
            try:
                program(text)
            except RuleError as error:
                yield causes.invalid(f"{place}.{field}", _shown(rule), f"compilation failed: {error}")
        if "\n" in (rule.get("message") or "").strip():
            yield causes.invalid(f"{place}.message", rule["message"], "message must not contain line breaks")


def _shown(rule: Json) -> Json:
    """A rule as Kubernetes shows it in an error."""
    names = ("Rule", "Message", "MessageExpression", "FieldPath")
    found: Json = {name: rule.get(name[0].lower() + name[1:], "") for name in names}
    return found | {"Reason": rule.get("reason"), "OptionalOldSelf": rule.get("optionalOldSelf")}


def not_asked(schema: Any) -> Iterator[str]:
    """Warnings of the rules somewhere in the schema that are kept and not asked."""
    if isinstance(schema, list):
        for part in schema:
            yield from not_asked(part)
    if not isinstance(schema, dict):
        return
    for rule in schema.get(RULES) or ():
        text = (rule.get("rule") or "").strip() if isinstance(rule, dict) else ""
        if text and (name := missing_library(text)) is not None:
            yield f"the rule {text!r} is kept and not evaluated: this server has no function {name}"
    for name, part in schema.items():
        if name not in {"default", "enum", "example", RULES}:
            yield from not_asked(part)

"""Label and field selectors: parsed with Kubernetes' grammar and messages, matched against records.

environment in (production, qa), tier notin (frontend), partition, !experimental, version>3
metadata.name=web,status.phase!=Running        (`\\,` `\\=` and `\\\\` in values)
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mizzen.local.apiserver.errors import BadRequest
from mizzen.local.apiserver.schema import names

_TOKEN = re.compile(r"\s*(?:(?P<special>==|!=|[=!(),<>])|(?P<word>[^\s=!(),<>]+))")
_BINARY = ("in", "notin", "=", "==", "!=", "gt", "lt")


class Requirement(NamedTuple):
    """One condition on one label; `operator` is `=`, `!=`, `in`, `notin`, `exists`, `!`, `>` or `<`."""

    key: str
    operator: str
    values: frozenset[str]

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "=" | "in":
                return value in self.values
            case "!=" | "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        try:
            bound = int(next(iter(self.values)))
            return value is not None and (int(value) > bound if self.operator == ">" else int(value) < bound)
        except ValueError:
            return False


class _Tokens:
    """The selector's words, with Go's way of naming what was found."""

    def __init__(self, text: str) -> None:
        self._items: list[tuple[str, bool]] = []
        position = 0
        while (match := _TOKEN.match(text, position)) is not None:
            self._items.append((match["special"] or match["word"], match["special"] is not None))
            position = match.end()
        self._next = 0

    def peek(self) -> tuple[str, bool] | None:
        return self._items[self._next] if self._next < len(self._items) else None

    def take(self) -> tuple[str, bool] | None:
        item = self.peek()
        self._next += 1
        return item

    def take_word(self, expected: str) -> str:
        item = self.take()
        if item is None or item[1]:
            raise _Unparsable(f"found '{_text(item)}', expected: {expected}")
        return item[0]


class _Unparsable(ValueError):
    """The selector cannot be read; the message says where it stops making sense."""


def _text(item: tuple[str, bool] | None) -> str:
    return "" if item is None else item[0]


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """The requirements of a label selector, all of which must hold; BadRequest when it cannot be read."""
    tokens = _Tokens(text)
    requirements: list[Requirement] = []
    while (item := tokens.peek()) is not None:
        if item[1] and item[0] != "!":
            raise BadRequest(f"found '{item[0]}', expected: !, identifier, or 'end of string'")
        try:
            requirements.append(_requirement(tokens))
        except _Unparsable as error:
            raise BadRequest(f"unable to parse requirement: {error}") from error
        separator = tokens.take()
        if separator is None:
            break
        if separator != (",", True):
            raise BadRequest(f"found '{separator[0]}', expected: ',' or 'end of string'")
        following = tokens.peek()
        if following is None or (following[1] and following[0] != "!"):
            raise BadRequest(f"found '{_text(following)}', expected: identifier after ','")
    return tuple(requirements)


def _requirement(tokens: _Tokens) -> Requirement:
    negated = tokens.peek() == ("!", True)
    if negated:
        tokens.take()
    key = tokens.take_word("identifier")
    if errors := names.qualified_name(key):
        raise _Unparsable(f'<nil>: Invalid value: "{key}": {"; ".join(errors)}')
    following = tokens.peek()
    if negated or following in {None, (",", True)}:
        return Requirement(key, "!" if negated else "exists", frozenset())
    operator = _text(tokens.take())
    if operator not in {"=", "==", "!=", "in", "notin", ">", "<"}:
        raise _Unparsable(f"found '{operator}', expected: {', '.join(_BINARY)}")
    values = _values(tokens) if operator in {"in", "notin"} else _value(tokens)
    for value in values:
        if errors := names.label_value(value):
            raise _Unparsable(f'values[0][{key}]: Invalid value: "{value}": {"; ".join(errors)}')
    if operator in {">", "<"} and not re.fullmatch(r"[+-]?\d+", next(iter(values))):
        shown = f'"{next(iter(values))}"'
        raise _Unparsable(f"values[0]: Invalid value: {shown}: for 'Gt', 'Lt' operators, the value must be an integer")
    return Requirement(key, "=" if operator == "==" else operator, values)


def _value(tokens: _Tokens) -> frozenset[str]:
    if tokens.peek() in {None, (",", True)}:
        return frozenset({""})
    return frozenset({tokens.take_word("identifier")})


def _values(tokens: _Tokens) -> frozenset[str]:
    opened = tokens.take()
    if opened != ("(", True):
        raise _Unparsable(f"found '{_text(opened)}' expected: '('")
    values: set[str] = set()
    expecting = True
    while (item := tokens.take()) is not None:
        if item == (")", True):
            return frozenset(values | ({""} if expecting else set()))
        if item == (",", True):
            if expecting:
                values.add("")
            expecting = True
        elif item[1]:
            raise _Unparsable(f"found '{item[0]}', expected: ',', or identifier")
        elif not expecting:
            raise _Unparsable(f"found '{item[0]}', expected: ',' or ')'")
        else:
            values.add(item[0])
            expecting = False
    raise _Unparsable("found '', expected: ',' or ')'")


class FieldTerm(NamedTuple):
    field: str
    equal: bool
    value: str


_FIELD_TERM = re.compile(r"(?P<field>.*?)(?P<operator>!=|==|=)(?P<value>.*)", re.DOTALL)
_TERMS = re.compile(r"(?:\\.|[^,\\]|\\$)+", re.DOTALL)
"""What stands between commas that are not escaped."""
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def parse_fields(text: str, refusal: Callable[[str], str]) -> tuple[FieldTerm, ...]:
    """The terms of a field selector, all of which must hold; `refusal` says what is wrong with a field, if anything."""
    terms = []
    for part in _TERMS.findall(text):
        if not part:
            continue
        match = _FIELD_TERM.fullmatch(part)
        if match is None:
            raise BadRequest(f"invalid selector: '{text}'; can't understand '{part}'")
        value = match["value"]
        plain = _ESCAPE.sub("", value)
        if plain.endswith("\\"):
            raise BadRequest("invalid field selector: invalid escape sequence: \\")
        if "=" in plain:
            raise BadRequest("invalid field selector: unescaped character in value: =")
        if problem := refusal(match["field"]):
            raise BadRequest(problem)
        terms.append(FieldTerm(match["field"], match["operator"] != "!=", _ESCAPE.sub(r"\1", value)))
    return tuple(terms)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a list or watch are wanted."""

    namespace: str | None = None
    labels: tuple[Requirement, ...] = ()
    fields: tuple[FieldTerm, ...] = ()

    @property
    def everything(self) -> bool:
        return not self.labels and not self.fields

    @property
    def name(self) -> str | None:
        """The one name that can match, if the field selector names one."""
        for term in self.fields:
            if term.field == "metadata.name" and term.equal:
                return term.value
        return None

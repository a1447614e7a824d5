"""YAML as Kubernetes reads it, with the line of everything.

The dialect is that of Go's `yaml.v2`, which kubectl and the API server use, so that a file means the same everywhere:
`y` and `n` are booleans, times stay texts, `1:30` is a text, `017` and `0o17` are octal, every key becomes a string.
Values are built from the parser's events with a stack of our own, since composing nodes recurses in C, where a deep
document ends the process. Depth and the size that aliases blow a document up to are limited.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]

DEPTH_MAX = 200
_NODES_FREE, _ALIAS_FACTOR = 100_000, 10
"""A document may stand for this many nodes, and beyond for so many times the nodes that are written."""

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})
_FALSE = frozenset({"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})
_INTEGER = re.compile(r"^[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)$")
_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_TAG = "tag:yaml.org,2002:"


class YamlError(ValueError):
    """Not YAML, or YAML that has no JSON form. `line` counts from 1."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(f"line {line}: {problem}")
        self.problem, self.line = problem, line


@dataclass(frozen=True, slots=True)
class Repeated:
    """A key that a mapping has twice: where, on which line, and where it was first."""

    path: Path
    line: int
    first_line: int


@dataclass(slots=True)
class Document:
    """One document: its value, and the line of each key and item by its path (of the root: `()`)."""

    value: Any
    lines: dict[Path, int]
    repeated: list[Repeated] = field(default_factory=list)

    def line_of(self, path: Path) -> int:
        """The line of that place, or of the nearest one around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def scalar(text: str) -> Any:
    """What a plain scalar stands for.

    Raises `ValueError` for infinity and not-a-number, which JSON does not have.
    """
    if text in _NULLS:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    bare = text.replace("_", "")
    if _INTEGER.match(bare):
        sign, digits = (-1 if bare[0] == "-" else 1), bare.lstrip("+-")
        octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
        return sign * (int(digits, 8) if octal else int(digits, 0))
    if _FLOAT.match(bare):
        return as_number(bare)
    if text.lower() in {".inf", "-.inf", "+.inf", ".nan"}:
        raise ValueError(f"expected a number that JSON can say, got {text}")
    return text


def as_number(text: str) -> int | float:
    """A number as Go writes it to JSON: 2.0 is 2."""
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise ValueError(f"expected a number that JSON can say, got {text}")
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


class _Dumper(yaml.SafeDumper):
    """Quotes every text that Go would take for something else, and writes what is there twice twice."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        plain = scalar(text) is text
    except ValueError:
        plain = False
    style = ("|" if "\n" in text else None) if plain else '"'
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def dump(value: Any) -> str:
    """A JSON value as YAML that means the same to us, to kubectl and to PyYAML, in the order of its keys."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def documents(text: str | bytes) -> Iterator[Document]:
    """Each document in turn.

    Raises `YamlError`, after the documents before it were given.
    """
    events = _events(text)
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            yield _Builder(events).document(_line(event))


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 1


def _events(text: str | bytes) -> Iterator[yaml.Event]:
    try:
        loader = yaml.CSafeLoader(text)
        while loader.check_event():
            event = loader.get_event()
            assert event is not None
            yield event
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = f"{error.problem} {error.context}" if error.context else str(error.problem)
        if mark is not None and _character_at(text, mark) == "\t":
            problem = "found a tab, where YAML takes only spaces"
        line = (mark.line if mark is not None else 0) + 1
        raise YamlError(problem, min(line, _line_at(text, max(0, len(text.rstrip()))))) from error
    except yaml.reader.ReaderError as error:
        raise YamlError(f"expected text in UTF-8: {error.reason}", _line_at(text, error.position)) from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise YamlError(str(error), 1) from error


def _character_at(text: str | bytes, mark: yaml.Mark) -> str:
    whole = text if isinstance(text, str) else text.decode(errors="replace")
    lines = whole.splitlines()
    return lines[mark.line][mark.column : mark.column + 1] if mark.line < len(lines) else ""


def _line_at(text: str | bytes, position: int) -> int:
    return (text[:position].count("\n") if isinstance(text, str) else text[:position].count(b"\n")) + 1


@dataclass(slots=True)
class _Frame:
    """A mapping or sequence that is being built."""

    value: Any
    path: Path
    line: int
    anchor: str | None
    size: int = 1
    key: str | None = None
    key_line: int = 0
    key_merges: bool = False
    seen: dict[str, int] = field(default_factory=dict)
    merged: dict[str, Any] = field(default_factory=dict)


class _Builder:
    """Builds one document from events."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._lines: dict[Path, int] = {}
        self._repeated: list[Repeated] = []
        self._written = self._stands_for = 0

    def document(self, line: int) -> Document:
        """Takes events up to the document's end."""
        root: Any = None
        self._lines[()] = line
        for event in self._events:
            if isinstance(event, yaml.DocumentEndEvent):
                break
            at = _line(event)
            if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._open(event, at)
                continue
            if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                frame = self._stack.pop()
                value, size, anchor = (
                    {**frame.merged, **frame.value} if frame.merged else frame.value,
                    frame.size,
                    frame.anchor,
                )
            else:
                value, size, anchor = self._leaf(event, at)
            if anchor is not None:
                self._anchors[anchor] = value, size
            if self._stack:
                self._add(value, size, at)
            else:
                root = "<<" if value is _MERGE else value
        return Document(root, self._lines, self._repeated)

    def _leaf(self, event: yaml.Event, at: int) -> tuple[Any, int, str | None]:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise YamlError(f"expected an anchor &{event.anchor} before *{event.anchor}", at)
            value, size = self._anchors[event.anchor]
            self._count(size, at, written=1)
            return _copied(value), size, None
        assert isinstance(event, yaml.ScalarEvent)
        self._count(1, at)
        try:
            return _scalar_of(event), 1, event.anchor
        except (ValueError, binascii.Error) as error:
            raise YamlError(str(error), at) from error

    def _count(self, size: int, at: int, written: int | None = None) -> None:
        self._written += size if written is None else written
        self._stands_for += size
        if self._stands_for > _NODES_FREE + _ALIAS_FACTOR * self._written:
            raise YamlError("expected a document that aliases do not blow up, got one of too many nodes", at)

    def _open(self, event: yaml.CollectionStartEvent, at: int) -> None:
        self._count(1, at)
        if len(self._stack) >= DEPTH_MAX:
            raise YamlError(f"expected at most {DEPTH_MAX} levels, one inside the other", at)
        path: Path = ()
        if self._stack:
            path = self._place(self._stack[-1])
            if path is _NO_PLACE:
                raise YamlError("expected a key that is a text, got a mapping or a list", at)
        value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Frame(value, path, at, event.anchor))
        if not path or isinstance(self._stack[-2].value, list):
            self._lines[path] = at

    @staticmethod
    def _place(frame: _Frame) -> Path:
        """Where the frame's next value goes."""
        if isinstance(frame.value, list):
            return (*frame.path, len(frame.value))
        return _NO_PLACE if frame.key is None else (*frame.path, frame.key)

    def _add(self, value: Any, size: int, at: int) -> None:
        """Puts a value that is complete into the one around it."""
        frame = self._stack[-1]
        frame.size += size
        merges, value = value is _MERGE, "<<" if value is _MERGE else value
        if isinstance(frame.value, list):
            self._lines.setdefault((*frame.path, len(frame.value)), at)
            frame.value.append(value)
        elif frame.key is None:
            if isinstance(value, dict | list):
                raise YamlError("expected a key that is a text, got a mapping or a list", at)
            frame.key, frame.key_line, frame.key_merges = _key_text(value), at, merges
        else:
            self._set(frame, value)

    def _set(self, frame: _Frame, value: Any) -> None:
        key, line = frame.key or "", frame.key_line
        frame.key = None
        if frame.key_merges:
            for other in value if isinstance(value, list) else [value]:
                if not isinstance(other, dict):
                    raise YamlError("expected a mapping, or a list of them, to merge", line)
                frame.merged = {**other, **frame.merged}
            return
        path = (*frame.path, key)
        if key in frame.seen:
            self._repeated.append(Repeated(path, line, frame.seen[key]))
        frame.seen.setdefault(key, line)
        self._lines[path] = line
        frame.value[key] = value


_NO_PLACE: Path = ("",)
_MERGE = object()
"""A plain `<<`: as a key it merges, quoted it does not."""


def _scalar_of(event: yaml.ScalarEvent) -> Any:
    tag, text = (event.tag or "").removeprefix(_TAG), event.value
    if event.implicit[0] and not event.tag:
        return _MERGE if text == "<<" else scalar(text)
    if tag in {"int", "float", "bool", "null"}:
        return scalar(text)
    return base64.b64decode("".join(text.split()), validate=True).decode(errors="replace") if tag == "binary" else text


def _key_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value

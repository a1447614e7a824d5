"""YAML bodies as Kubernetes reads them: one document, to JSON values, in the dialect of Go's `yaml.v2`.

It differs from PyYAML's: `y` and `n` are booleans, times stay texts, `1:30` is a text, `0o17` and `017` are octal, and
every key becomes a string. Repeated keys are noted with their lines; the last one counts.
"""

import base64
import re
from typing import Any

import yaml

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})
_FALSE = frozenset({"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})
_INTEGER = re.compile(r"^[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)$")
_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_ALIASES_FACTOR, _NODES_FREE, _DEPTH_MAX = 10, 100_000, 200
_MERGE, _BINARY, _STR = "<<", "tag:yaml.org,2002:binary", "tag:yaml.org,2002:str"


class YamlError(ValueError):
    """No YAML, or YAML that has no JSON form."""


def scalar(text: str) -> Any:
    """What a plain scalar stands for."""
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
        value = float(bare)
        return int(value) if value.is_integer() and abs(value) < 1e15 else value
    if text.lower() in {".inf", "-.inf", "+.inf", ".nan"}:
        raise YamlError(f"json: unsupported value: {text}")
    return text


def load(body: bytes) -> tuple[Any, list[tuple[int, str]]]:
    """The first document's value, and its repeated keys as (line, key).

    Raises `YamlError`.
    """
    try:
        loader = yaml.CSafeLoader(body)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise YamlError(f"yaml: {error}") from error
    try:
        node = loader.get_node() if loader.check_node() else None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise YamlError(f"yaml: {line}{error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise YamlError(f"yaml: {error}") from error
    finally:
        loader.dispose()
    builder = _Builder()
    return (None if node is None else builder.build(node, 0)), builder.repeated


def _is_plain(node: yaml.ScalarNode) -> bool:
    return not node.style


def _only_go_reads(text: str) -> bool:
    """Whether Go takes a plain text for something else than a string, and PyYAML does not."""
    return text in {"y", "Y", "n", "N"} or text[:2].lower() == "0o" or _FLOAT.match(text) is not None


class _Builder:
    def __init__(self) -> None:
        self.repeated: list[tuple[int, str]] = []
        self._built = 0
        self._seen: set[int] = set()

    def build(self, node: yaml.Node, depth: int) -> Any:
        self._built += 1
        self._seen.add(id(node))
        if self._built > _NODES_FREE + _ALIASES_FACTOR * len(self._seen):
            raise YamlError("yaml: document contains excessive aliasing")
        if depth > _DEPTH_MAX:
            raise YamlError("yaml: exceeded max depth")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, depth + 1) for item in node.value]
        if node.tag == _BINARY:
            return base64.b64decode(node.value).decode(errors="replace")
        assert isinstance(node, yaml.ScalarNode)
        return (
            scalar(node.value) if _is_plain(node) and (node.tag != _STR or _only_go_reads(node.value)) else node.value
        )

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            value = self.build(value_node, depth + 1)
            if isinstance(key_node, yaml.ScalarNode) and key_node.value == _MERGE and _is_plain(key_node):
                for other in value if isinstance(value, list) else [value]:
                    if not isinstance(other, dict):
                        raise YamlError("yaml: map merge requires map or sequence of maps as the value")
                    merged = {**other, **merged}
                continue
            key = self._key(key_node, depth)
            if key in result:
                self.repeated.append((key_node.start_mark.line + 1, key))
            result[key] = value
        return {**merged, **result}

    def _key(self, node: yaml.Node, depth: int) -> str:
        key = self.build(node, depth + 1)
        if isinstance(key, dict | list):
            raise YamlError("yaml: invalid map key: expected a scalar")
        if isinstance(key, bool):
            return "true" if key else "false"
        return "null" if key is None else str(key)

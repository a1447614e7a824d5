"""YAML request bodies: the first document as JSON values, and its repeated keys, in Kubernetes' words."""

from typing import Any

from mizzen.kinds import yamltext
from mizzen.kinds.yamltext import YamlError

__all__ = ["YamlError", "load"]


def load(body: bytes) -> tuple[Any, list[tuple[int, str]]]:
    """The first document's value, and its repeated keys as (line, key); the last of them counts.

    Raises `YamlError`.
    """
    document = next(yamltext.documents(body), None)
    if document is None:
        return None, []
    return document.value, [(repeated.line, str(repeated.path[-1])) for repeated in document.repeated]

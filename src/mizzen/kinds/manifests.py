"""What a user wrote, read and checked: YAML or JSON text to manifests, or everything that is wrong with it at once.

`load` goes through the documents of a text. Those of our kinds are checked by their models, to the letter: unknown
fields are refused, a text is not taken for a number. Others are passed on as they are. A document may leave out
`apiVersion` after one that has it. Nothing is filled in: `wire` is what was written, and the API server adds the
defaults.
"""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from mizzen.kinds.catalog import KINDS, kind_named
from mizzen.kinds.errors import ManifestError, ManifestErrors
from mizzen.kinds.meta import API_VERSION, DNS_LABEL, GROUP, Resource
from mizzen.kinds.wording import PATTERNS, findings, shown
from mizzen.kinds.yamltext import Document, YamlError, documents

BYTES_MAX = 4 * 1024 * 1024
"""Of one text. An API server takes requests of 3 MiB, and etcd objects of half of that."""
_NAME, _NAME_MAX = re.compile(DNS_LABEL.removesuffix("$") + r"\Z"), 63
"""Names of our objects: they end up in labels, and references to them have this form."""

__all__ = ["BYTES_MAX", "Manifest", "load"]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object as it was written."""

    wire: dict[str, Any]
    """The document, with `apiVersion` filled in where it was left out."""
    source: str
    line: int
    """Where the document begins, from 1."""
    resource: Resource | None = field(default=None, compare=False)
    """The parsed object where it is one of our kinds, with defaults."""


def load(text: str, source: str) -> list[Manifest]:
    """The manifests in a text; `source` names it in messages (a file's name). Empty documents count for nothing.

    Raises `ManifestErrors`.
    """
    reader = _Reader(source)
    manifests = list(reader.manifests(text))
    if reader.errors:
        raise ManifestErrors(sorted(reader.errors, key=lambda error: error.line))
    return manifests


class _Reader:
    """Goes through the documents of one text and collects what is wrong."""

    def __init__(self, source: str) -> None:
        self.errors: list[ManifestError] = []
        self._source = source
        self._api_version: str | None = None
        self._number = 0

    def manifests(self, text: str) -> Iterator[Manifest]:
        size = len(text.encode(errors="surrogatepass"))
        if size > BYTES_MAX:
            limit = f"at most {BYTES_MAX >> 20} MiB of text"
            self._wrong("document 1", limit, f"{size / (1 << 20):.1f} MiB", 1, "split it into several files")
            return
        try:
            for document in documents(text):
                self._number += 1
                yield from self._of_document(document)
        except YamlError as error:
            self._number += 1
            self._wrong(self._document, "YAML or JSON", f"a text that is neither: {error.problem}", error.line)

    @property
    def _document(self) -> str:
        return f"document {self._number}"

    def _wrong(self, path: str, expected: str, found: str, line: int, hint: str = "") -> None:
        self.errors.append(ManifestError(path, expected, found, self._source, line, hint))

    def _of_document(self, document: Document) -> Iterator[Manifest]:
        for repeated in document.repeated:
            said = f"it again (first in line {repeated.first_line})"
            self._wrong(path_text(repeated.path), "each field once", said, repeated.line)
        value = document.value
        if value is None:
            return
        if not isinstance(value, dict):
            self._wrong(
                self._document, "a mapping with apiVersion, kind and metadata", shown(value), document.line_of(())
            )
            return
        if (
            value.get("kind") == "List"
            and value.get("apiVersion", "v1") == "v1"
            and isinstance(value.get("items"), list)
        ):
            for index, item in enumerate(value["items"]):
                yield from self._of_object(document, ("items", index), item)
            return
        yield from self._of_object(document, (), value)

    def _of_object(self, document: Document, at: tuple[str | int, ...], value: Any) -> Iterator[Manifest]:
        if not isinstance(value, dict):
            self._wrong(
                path_text(at), "a mapping with apiVersion, kind and metadata", shown(value), document.line_of(at)
            )
            return
        before = len(self.errors)
        wire = self._with_api_version(document, at, value)
        kind = self._kind(document, at, wire) if wire is not None else None
        self._check_name(document, at, value, ours=kind is not None)
        resource = self._parsed(kind, document, at, wire) if kind is not None and wire is not None else None
        if wire is not None and len(self.errors) == before:
            yield Manifest(wire, self._source, document.line_of(at), resource)

    def _with_api_version(
        self, document: Document, at: tuple[str | int, ...], value: dict[str, Any]
    ) -> dict[str, Any] | None:
        said = value.get("apiVersion")
        if said is None and self._api_version is not None and kind_named(str(value.get("kind"))) is not None:
            return {"apiVersion": API_VERSION, **{key: item for key, item in value.items() if key != "apiVersion"}}
        path, line = path_text((*at, "apiVersion")), document.line_of((*at, "apiVersion"))
        if not isinstance(said, str) or not said:
            near = _near_kind(value.get("kind"))
            if said is None and self._api_version is not None and near is not None:
                place = (*at, "kind")
                self._not_ours(path_text(place), value.get("kind"), document.line_of(place))
            else:
                self._wrong(path, f"an API version such as {API_VERSION}", shown(said), line)
            return None
        self._api_version = self._api_version or said
        if said.partition("/")[0] == GROUP and said != API_VERSION:
            self._wrong(path, API_VERSION, shown(said), line)
            return None
        return value

    def _kind(self, document: Document, at: tuple[str | int, ...], wire: dict[str, Any]) -> type[Resource] | None:
        said, ours = wire.get("kind"), wire.get("apiVersion") == API_VERSION
        path, line = path_text((*at, "kind")), document.line_of((*at, "kind"))
        if not isinstance(said, str) or not said:
            self._wrong(path, "a kind", shown(said), line, _known_kinds() if ours else "")
            return None
        kind = kind_named(said) if ours else None
        if ours and kind is None:
            self._not_ours(path, said, line)
        return kind

    def _not_ours(self, path: str, said: Any, line: int) -> None:
        near = _near_kind(said)
        hint = f"did you mean {near}?" if near else _known_kinds()
        self._wrong(path, f"a kind of {GROUP}", shown(said), line, hint)

    def _check_name(self, document: Document, at: tuple[str | int, ...], value: dict[str, Any], *, ours: bool) -> None:
        metadata, place = value.get("metadata"), (*at, "metadata")
        if not isinstance(metadata, dict):
            self._wrong(path_text(place), "a mapping with the object's name", shown(metadata), document.line_of(place))
            return
        name = metadata.get("name")
        if name is None and metadata.get("generateName"):
            return
        place = (*place, "name")
        if not isinstance(name, str) or not name:
            self._wrong(path_text(place), "the object's name", shown(name), document.line_of(place))
        elif ours and (len(name) > _NAME_MAX or _NAME.match(name) is None):
            expected = f"{PATTERNS[DNS_LABEL]}, at most {_NAME_MAX} of them"
            self._wrong(path_text(place), expected, shown(name), document.line_of(place))

    def _parsed(
        self, kind: type[Resource], document: Document, at: tuple[str | int, ...], wire: dict[str, Any]
    ) -> Resource | None:
        said = without_nulls(wire)
        try:
            return kind.model_validate(said, strict=True, by_alias=True, by_name=False)
        except ValidationError as error:
            known = {(item.path, item.line) for item in self.errors}
            for finding in findings(kind, said, error):
                path, line = path_text((*at, *finding.path)), document.line_of((*at, *finding.path))
                if (path, line) not in known:
                    self._wrong(path, finding.expected, finding.found, line, finding.hint)
            return None


def without_nulls(value: Any) -> Any:
    """The value without fields that are null, which an API server takes for fields that are not there."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def path_text(path: tuple[str | int, ...]) -> str:
    """A path as messages name it: `spec.gates[0].metric`; of the whole document, `document`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "document"


def _known_kinds() -> str:
    return f"the kinds are {', '.join(kind.__name__ for kind in KINDS)}"


def _near_kind(said: Any) -> str | None:
    """The kind that a plural, a short name, another case or a slip of the hand stands for."""
    if not isinstance(said, str):
        return None
    names: dict[str, str] = {}
    for kind in KINDS:
        names |= dict.fromkeys((kind.__name__.lower(), kind.plural, *kind.short_names), kind.__name__)
    near = difflib.get_close_matches(said.lower(), names, n=1)
    return names[near[0]] if near else None

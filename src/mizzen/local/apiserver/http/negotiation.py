"""Which representation a client accepts: JSON or YAML; whole objects, Tables or metadata alone.

Kubernetes' own clients ask for `application/vnd.kubernetes.protobuf` first and take JSON second; as for custom
resources everywhere, JSON is what they get here.
"""

from functools import lru_cache
from typing import Literal, NamedTuple

from mizzen.local.apiserver.answers import JSON, YAML
from mizzen.local.apiserver.errors import NotAcceptable

Media = Literal["application/json", "application/yaml"]


class Representation(NamedTuple):
    """`form` is empty for whole objects, else the kind asked for with `as=`."""

    media: Media
    form: Literal["", "Table", "PartialObjectMetadata", "PartialObjectMetadataList"] = ""
    version: str = ""
    """`meta.k8s.io/v1` or `meta.k8s.io/v1beta1`, for forms."""


PLAIN = Representation(JSON)
_MEDIA: dict[str, Media] = {JSON: JSON, YAML: YAML, "application/*": JSON, "*/*": JSON, "": JSON}
_LIST_FORMS = frozenset({"Table", "PartialObjectMetadataList"})
_OBJECT_FORMS = frozenset({"Table", "PartialObjectMetadata"})


@lru_cache(maxsize=256)
def negotiate(accept: str, *, of_list: bool = False, forms: bool = True) -> Representation:
    """The first representation that the Accept header asks for and that there is; NotAcceptable when there is none.

    `of_list`: the answer is a list or watch. `forms`: whether Tables and metadata are to be had.
    """
    for clause in _by_quality(accept):
        media_type, *parameters = [part.strip() for part in clause.split(";")]
        media = _MEDIA.get(media_type)
        if media is None:
            continue
        given = dict(part.split("=", 1) for part in parameters if "=" in part)
        form = given.get("as", "")
        if not form:
            return Representation(media)
        allowed = _LIST_FORMS | {"PartialObjectMetadata"} if of_list else _OBJECT_FORMS
        version = given.get("v", "v1")
        if forms and form in allowed and given.get("g") == "meta.k8s.io" and version in {"v1", "v1beta1"}:
            return Representation(media, form, f"meta.k8s.io/{version}")  # type: ignore[arg-type]
    raise NotAcceptable("406: Not Acceptable\n\nAvailable representations: application/json, application/yaml")


def _by_quality(accept: str) -> list[str]:
    """The clauses of an Accept header, those with the highest `q` first, else in the order given."""
    clauses = accept.split(",")
    if "q=" not in accept:
        return clauses

    def quality(clause: str) -> float:
        for part in clause.split(";")[1:]:
            name, _, value = part.strip().partition("=")
            if name == "q":
                try:
                    return -float(value)
                except ValueError:
                    return 0.0
        return -1.0

    return sorted(clauses, key=quality)

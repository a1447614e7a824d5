"""A request in the words of authorization rules."""

from mizzen.local.apiserver.request import Request
from mizzen.local.apiserver.selectors import parse_fields
from mizzen.local.apiserver.types import Attributes


def attributes_of(request: Request) -> Attributes:
    """What a request is in the words of authorization rules."""
    target = request.target
    if target is None:
        return Attributes(verb=request.verb, path=request.path)
    name = target.name
    if not name and request.verb in {"list", "watch", "deletecollection"} and "fieldSelector" in request.query:
        name = _selected_name(request.query.get("fieldSelector"))
    return Attributes(
        verb=request.verb,
        group=target.group,
        version=target.version,
        resource=target.resource,
        subresource=target.subresource,
        namespace=target.namespace,
        name=name,
    )


def _selected_name(selector: str) -> str:
    """The one name a field selector admits: clients may be allowed to list or watch a single object."""
    terms = parse_fields(selector, lambda _: "")
    return next((term.value for term in terms if term.field == "metadata.name" and term.equal), "")

"""Who asks, and whether they may: before anything else is looked at."""

from mizzen.local.apiserver.http.request import Request
from mizzen.local.apiserver.security.rbac import Authorizer
from mizzen.local.apiserver.selectors import parse_fields
from mizzen.local.apiserver.types import Attributes, User

_GROUPS_ADDED = "system:authenticated"


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
    terms = parse_fields(selector, lambda _: True)
    return next((term.value for term in terms if term.field == "metadata.name" and term.equal), "")


def impersonated(authorizer: Authorizer, user: User, headers: list[tuple[bytes, bytes]]) -> User:
    """The user whom `Impersonate-*` headers name, if the one who asks may act as them."""
    name, groups, uid = "", [], ""
    extra: dict[str, list[str]] = {}
    for raw_name, raw_value in headers:
        if not raw_name.startswith(b"impersonate-"):
            continue
        header, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if header == "impersonate-user":
            name = value
        elif header == "impersonate-group":
            groups.append(value)
        elif header == "impersonate-uid":
            uid = value
        elif header.startswith("impersonate-extra-"):
            extra.setdefault(header.removeprefix("impersonate-extra-"), []).append(value)
    if not name:
        return user
    for resource, value in [
        ("users", name),
        *(("groups", group) for group in groups),
        *([("uids", uid)] if uid else []),
    ]:
        _authorize_impersonation(authorizer, user, resource, value)
    for key, values in extra.items():
        for value in values:
            _authorize_impersonation(authorizer, user, "userextras", value, key)
    account = name.split(":")
    if not groups and account[:2] == ["system", "serviceaccount"] and len(account) == 4:
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{account[2]}"]
    if name != "system:anonymous" and _GROUPS_ADDED not in groups:
        groups.append(_GROUPS_ADDED)
    return User(name, tuple(groups), uid, tuple((key, tuple(values)) for key, values in extra.items()))


def _authorize_impersonation(
    authorizer: Authorizer, user: User, resource: str, value: str, subresource: str = ""
) -> None:
    group = "authentication.k8s.io" if resource in {"uids", "userextras"} else ""
    namespace, name = "", value
    account = value.split(":")
    if resource == "users" and account[:2] == ["system", "serviceaccount"] and len(account) == 4:
        resource, namespace, name = "serviceaccounts", account[2], account[3]
    authorizer.require(
        user, Attributes("impersonate", group, "v1", resource, subresource, namespace=namespace, name=name)
    )

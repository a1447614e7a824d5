"""Acting as somebody else (`kubectl --as`): the Impersonate-* headers, each checked by RBAC.

The one who asks must be allowed the verb `impersonate` on each thing they claim: the user (or service account), every
group, the uid, every extra. What is not claimed is not inherited.
"""

import urllib.parse
from collections.abc import Iterable

from mizzen.local.apiserver.errors import BadRequest
from mizzen.local.apiserver.security.authn import ANONYMOUS
from mizzen.local.apiserver.security.rbac import Authorizer
from mizzen.local.apiserver.security.service_account_tokens import groups as service_account_groups
from mizzen.local.apiserver.security.tokens import AUTHENTICATED
from mizzen.local.apiserver.types import Attributes, User

_AUTHENTICATION = "authentication.k8s.io"
_UNAUTHENTICATED = "system:unauthenticated"
_EXTRA = "impersonate-extra-"


def impersonate(authorizer: Authorizer, user: User, headers: Iterable[tuple[str, str]]) -> User:
    """Whom the request is to be taken for: `user` where no header says otherwise.

    Raises `Forbidden` for what `user` may not claim, `BadRequest` for groups, uid or extras without a user.
    """
    name = uid = ""
    groups: list[str] = []
    extra: dict[str, list[str]] = {}
    for header, value in headers:
        match header.lower():
            case "impersonate-user":
                name = value
            case "impersonate-group":
                groups.append(value)
            case "impersonate-uid":
                uid = value
            case key if key.startswith(_EXTRA):
                extra.setdefault(urllib.parse.unquote(key.removeprefix(_EXTRA)), []).append(value)
    if not name:
        if groups or uid or extra:
            raise BadRequest("requested groups, a uid or extras to impersonate without impersonating a user")
        return user
    for attributes in _claims(name, groups, uid, extra):
        authorizer.require(user, attributes)
    return User(
        name, _completed(name, groups), uid, tuple((key, tuple(values)) for key, values in sorted(extra.items()))
    )


def _claims(name: str, groups: list[str], uid: str, extra: dict[str, list[str]]) -> Iterable[Attributes]:
    account = _service_account(name)
    if account is not None:
        yield Attributes("impersonate", resource="serviceaccounts", namespace=account[0], name=account[1])
    else:
        yield Attributes("impersonate", resource="users", name=name)
    for group in groups:
        yield Attributes("impersonate", resource="groups", name=group)
    for key, values in extra.items():
        for value in values:
            yield Attributes("impersonate", _AUTHENTICATION, "v1", "userextras", subresource=key, name=value)
    if uid:
        yield Attributes("impersonate", _AUTHENTICATION, "v1", "uids", name=uid)


def _service_account(name: str) -> tuple[str, str] | None:
    parts = name.split(":")
    return (parts[2], parts[3]) if parts[:2] == ["system", "serviceaccount"] and len(parts) == 4 else None


def _completed(name: str, groups: list[str]) -> tuple[str, ...]:
    """The groups claimed, with the one that says whether this is anybody at all."""
    if name == ANONYMOUS.name:
        return tuple(dict.fromkeys([*groups, _UNAUTHENTICATED]))
    account = _service_account(name)
    if not groups and account is not None:
        return service_account_groups(account[0])
    if _UNAUTHENTICATED in groups or AUTHENTICATED in groups:
        return tuple(groups)
    return (*groups, AUTHENTICATED)

"""How the API server says no (403), in Kubernetes' words."""

from mizzen.local.apiserver.errors import Cause, Forbidden
from mizzen.local.apiserver.types import AdmissionContext, Attributes, User, qualified


def forbidden(user: User, attributes: Attributes, reason: str = "") -> Forbidden:
    """What RBAC does not allow."""
    if attributes.path:
        message = f'User "{user.name}" cannot {attributes.verb} path "{attributes.path}"'
        return Forbidden(f"forbidden: {_safe(message, reason)}")
    resource = f"{attributes.resource}/{attributes.subresource}" if attributes.subresource else attributes.resource
    scope = f'in the namespace "{attributes.namespace}"' if attributes.namespace else "at the cluster scope"
    message = (
        f'User "{user.name}" cannot {attributes.verb} resource "{resource}" in API group "{attributes.group}" {scope}'
    )
    key = attributes.group, attributes.resource
    return _about(key, attributes.name, _safe(message, reason))


def refusal(context: AdmissionContext, why: str, *causes: Cause) -> Forbidden:
    """What admission does not let into the store."""
    return _about(context.rtype.key, context.name, why, causes)


def _about(key: tuple[str, str], name: str, why: str, causes: tuple[Cause, ...] = ()) -> Forbidden:
    subject = f'{qualified(key)} "{name}"' if name else qualified(key)
    return Forbidden(f"{subject} is forbidden: {why}", name=name, group=key[0], kind=key[1], causes=causes)


def _safe(message: str, reason: str) -> str:
    """Without what a browser would take for HTML: a user's name may hold anything."""
    message = message.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"{message}: {reason}" if reason else message

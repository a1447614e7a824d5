"""Questions about users and what they may do: each function takes the object of the request and gives it with a status.

TokenReview asks whose a token is; the access reviews ask whether somebody may do something (`kubectl auth can-i`); the
rules review lists what one may do (`can-i --list`); SelfSubjectReview says who one is (`kubectl auth whoami`).
"""

import datetime as dt

from mizzen.local.apiserver.errors import BadRequest, Cause, Invalid
from mizzen.local.apiserver.security.authn import Authenticator
from mizzen.local.apiserver.security.jwt import InvalidToken
from mizzen.local.apiserver.security.rbac import Authorizer
from mizzen.local.apiserver.types import Attributes, Json, User

_AUTHORIZATION = "authorization.k8s.io"


def token_review(authenticator: Authenticator, review: Json) -> Json:
    spec = review.get("spec") or {}
    if not spec.get("token"):
        raise BadRequest("token is required for TokenReview in authentication")
    try:
        user, audiences = authenticator.check(spec["token"], tuple(spec.get("audiences") or ()))
    except InvalidToken as reason:
        return {**review, "status": {"user": {}, "error": str(reason)}}
    return {**review, "status": {"authenticated": True, "user": user_info(user), "audiences": list(audiences)}}


def self_subject_review(user: User, review: Json, now: dt.datetime) -> Json:
    created = now.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata = {**(review.get("metadata") or {}), "creationTimestamp": created}
    return {**review, "metadata": metadata, "status": {"userInfo": user_info(user)}}


def user_info(user: User) -> Json:
    """An `authentication/v1` UserInfo."""
    info: Json = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra}
    return info


def subject_access_review(authorizer: Authorizer, review: Json) -> Json:
    spec = review.get("spec") or {}
    causes = [*_attribute_causes(spec), *_subject_causes(spec)]
    _raise_for("SubjectAccessReview", causes)
    return _answered(authorizer, review, _subject(spec))


def local_subject_access_review(authorizer: Authorizer, namespace: str, review: Json) -> Json:
    spec = review.get("spec") or {}
    causes = [*_attribute_causes(spec), *_subject_causes(spec)]
    asked = (spec.get("resourceAttributes") or {}).get("namespace", "")
    if spec.get("resourceAttributes") is not None and asked != namespace:
        causes.append(_invalid("spec.resourceAttributes.namespace", f'"{asked}"', "must match metadata.namespace"))
    if spec.get("nonResourceAttributes") is not None:
        causes.append(_invalid("spec.nonResourceAttributes", "{}", "disallowed on this kind of request"))
    _raise_for("LocalSubjectAccessReview", causes)
    return _answered(authorizer, review, _subject(spec))


def self_subject_access_review(authorizer: Authorizer, user: User, review: Json) -> Json:
    _raise_for("SelfSubjectAccessReview", _attribute_causes(review.get("spec") or {}))
    return _answered(authorizer, review, user)


def self_subject_rules_review(authorizer: Authorizer, user: User, review: Json) -> Json:
    namespace = (review.get("spec") or {}).get("namespace", "")
    if not namespace:
        raise BadRequest("no namespace on request")
    rules = [rule.source for rule in authorizer.rules_for(user, namespace)]
    on_resources = ("verbs", "apiGroups", "resources", "resourceNames")
    on_paths = ("verbs", "nonResourceURLs")
    status = {
        "resourceRules": [_parts(rule, on_resources) for rule in rules if rule.get("resources")],
        "nonResourceRules": [_parts(rule, on_paths) for rule in rules if rule.get("nonResourceURLs")],
        "incomplete": False,
    }
    return {**review, "status": status}


def _parts(rule: Json, names: tuple[str, ...]) -> Json:
    return {name: rule[name] for name in names if rule.get(name)}


def _answered(authorizer: Authorizer, review: Json, user: User) -> Json:
    decision = authorizer.authorize(user, _attributes(review["spec"]))
    status: Json = {"allowed": decision.allowed}
    if decision.reason:
        status["reason"] = decision.reason
    return {**review, "status": status}


def _attributes(spec: Json) -> Attributes:
    on_path = spec.get("nonResourceAttributes")
    if on_path is not None:
        return Attributes(on_path.get("verb", ""), path=on_path.get("path") or "/")
    asked = spec["resourceAttributes"]
    words = ("verb", "group", "version", "resource", "subresource", "namespace", "name")
    return Attributes(**{word: asked.get(word) or "" for word in words})


def _subject(spec: Json) -> User:
    extra = tuple((key.lower(), tuple(values)) for key, values in sorted((spec.get("extra") or {}).items()))
    return User(spec.get("user") or "", tuple(spec.get("groups") or ()), spec.get("uid") or "", extra)


def _attribute_causes(spec: Json) -> list[Cause]:
    on_resource, on_path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if on_resource is not None and on_path is not None:
        problem = "cannot be specified in combination with resourceAttributes"
        return [_invalid("spec.nonResourceAttributes", "{}", problem)]
    if on_resource is None and on_path is None:
        problem = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        return [_invalid("spec.resourceAttributes", "null", problem)]
    return []


def _subject_causes(spec: Json) -> list[Cause]:
    if spec.get("user") or spec.get("groups"):
        return []
    return [_invalid("spec.user", '""', "at least one of user or group must be specified")]


def _invalid(field: str, value: str, problem: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {value}: {problem}", field)


def _raise_for(kind: str, causes: list[Cause]) -> None:
    if not causes:
        return
    texts = [f"{cause.field}: {cause.message}" for cause in causes]
    problems = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    message = f'{kind}.{_AUTHORIZATION} "" is invalid: {problems}'
    raise Invalid(message, group=_AUTHORIZATION, kind=kind, causes=tuple(causes))

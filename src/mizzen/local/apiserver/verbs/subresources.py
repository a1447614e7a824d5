"""Which handler answers which subresource, and which answers the resources that are not kept."""

from mizzen.local.apiserver.verbs import namespaces, pods, scale
from mizzen.local.apiserver.verbs.context import Handler
from mizzen.local.apiserver.verbs.logs import Logs
from mizzen.local.apiserver.verbs.reviews import Reviews


def handlers(reviews: Reviews, logs: Logs) -> dict[tuple[str, str], Handler]:
    return {
        ("binding", "create"): pods.bind,
        ("bindings", "create"): pods.bind_by_name,
        ("eviction", "create"): pods.evict,
        ("finalize", "update"): namespaces.finalize,
        ("log", "get"): logs.get,
        ("scale", "get"): scale.get,
        ("scale", "update"): scale.update,
        ("scale", "patch"): scale.patch,
        ("token", "create"): reviews.token,
        ("localsubjectaccessreviews", "create"): reviews.create,
        ("selfsubjectaccessreviews", "create"): reviews.create,
        ("selfsubjectreviews", "create"): reviews.create,
        ("selfsubjectrulesreviews", "create"): reviews.create,
        ("subjectaccessreviews", "create"): reviews.create,
        ("tokenreviews", "create"): reviews.create,
    }

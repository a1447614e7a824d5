"""Which handler answers which subresource, and which answers the resources that are not kept."""

from collections.abc import Mapping

from mizzen.local.apiserver.http.dispatch import Handler
from mizzen.local.apiserver.verbs import pods

HANDLERS: Mapping[tuple[str, str], Handler] = {
    ("binding", "create"): pods.bind,
}

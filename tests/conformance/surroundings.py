"""What tests stand in: a namespace of their own, a kind of their own, conditions to wait for."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from .client import Api, Json, Refused, Resource
from .objects import crd, service_account

CRDS = "apiextensions.k8s.io/v1/customresourcedefinitions"


def has_condition(thing: Json, type_: str, status: str = "True") -> bool:
    """Whether an object's status has this condition."""
    found = thing.get("status", {}).get("conditions") or []
    return any((one["type"], one["status"]) == (type_, status) for one in found)


def is_established(definition: Json) -> bool:
    return has_condition(definition, "Established")


class Namespace:
    """A namespace of one test."""

    def __init__(self, api: Api, name: str) -> None:
        self.api, self.name = api, name

    def __call__(self, resource: str, api: Api | None = None) -> Resource:
        """The objects of a type in this namespace, as the administrator or another identity."""
        return (api or self.api).resource(resource, self.name)

    def admit_pods(self) -> "Namespace":
        """Make the `default` ServiceAccount that Pods are refused without, if no controller has made it yet."""
        try:
            self("serviceaccounts").create(service_account("default"))
        except Refused as error:
            if error.code != 409:
                raise
        return self


@contextmanager
def served(api: Api, schema: Json | None = None, **changes: object) -> Iterator[str]:
    """A CRD (see `objects.crd`) in a group of its own, once it is established and until the block ends."""
    group = f"conformance-{secrets.token_hex(5)}.example.com"
    body = crd(group, schema, **changes)
    definitions = api.resource(CRDS)
    name = definitions.create(body)["metadata"]["name"]
    try:
        definitions.wait(name, is_established)
        yield group
    finally:
        api.request("DELETE", definitions.at(name))

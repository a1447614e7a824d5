"""Owner references: who goes with whom. A controller does it, so one must run."""

import pytest

from .client import Json, Resource
from .objects import config_map, custom, secret
from .surroundings import Namespace

pytestmark = pytest.mark.needs_controllers


def owned_by(*owners: Json, block: bool = False) -> list[Json]:
    references = []
    for owner in owners:
        meta = owner["metadata"]
        reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"]}
        references.append(reference | ({"blockOwnerDeletion": True} if block else {}))
    return references


def test_background(maps: Resource) -> None:
    """The owner goes at once, its dependents after it, and theirs after them."""
    owner = maps.create(config_map("owner"))
    child = maps.create(config_map("child", ownerReferences=owned_by(owner)))
    maps.create(config_map("grandchild", ownerReferences=owned_by(child)))
    maps.create(config_map("other"))
    maps.delete("owner", propagationPolicy="Background")
    assert not maps.exists("owner")
    maps.wait_gone("child")
    maps.wait_gone("grandchild")
    assert maps.exists("other")


def test_foreground(maps: Resource) -> None:
    """The owner stays, marked, until the dependents that block it are gone."""
    owner = maps.create(config_map("owner"))
    maps.create(config_map("child", finalizers=["example.com/a"], ownerReferences=owned_by(owner, block=True)))
    maps.delete("owner", propagationPolicy="Foreground")
    maps.wait("child", lambda one: "deletionTimestamp" in one["metadata"])
    assert "foregroundDeletion" in maps.get("owner")["metadata"]["finalizers"]
    maps.patch("child", {"metadata": {"finalizers": None}})
    maps.wait_gone("owner")
    assert not maps.exists("child")


def test_foreground_does_not_wait_for_those_that_do_not_block(maps: Resource) -> None:
    """A dependent without blockOwnerDeletion is deleted but not waited for."""
    owner = maps.create(config_map("owner"))
    maps.create(config_map("child", finalizers=["example.com/a"], ownerReferences=owned_by(owner)))
    maps.delete("owner", propagationPolicy="Foreground")
    maps.wait_gone("owner")
    maps.wait("child", lambda one: "deletionTimestamp" in one["metadata"])
    maps.patch("child", {"metadata": {"finalizers": None}})


def test_orphan(maps: Resource) -> None:
    """The dependents stay, without the reference; the owner goes."""
    owner = maps.create(config_map("owner"))
    maps.create(config_map("child", ownerReferences=owned_by(owner)))
    maps.delete("owner", propagationPolicy="Orphan")
    maps.wait_gone("owner")
    assert "ownerReferences" not in maps.get("child")["metadata"]


def test_one_owner_of_two(maps: Resource) -> None:
    """A dependent stays while one of its owners does, and loses the reference to the one that went."""
    first, second = (maps.create(config_map(name)) for name in ("first", "second"))
    maps.create(config_map("child", ownerReferences=owned_by(first, second)))
    maps.delete("first", propagationPolicy="Background")
    got = maps.wait("child", lambda one: len(one["metadata"]["ownerReferences"]) == 1)
    assert got["metadata"]["ownerReferences"][0]["name"] == "second"
    maps.delete("second", propagationPolicy="Background")
    maps.wait_gone("child")


def test_an_owner_that_never_was(maps: Resource) -> None:
    """A reference to a uid that does not exist is to nobody: the dependent goes."""
    owner = maps.create(config_map("owner"))
    references = owned_by(owner)
    references[0]["uid"] = "00000000-0000-0000-0000-000000000000"
    maps.create(config_map("child", ownerReferences=references))
    maps.wait_gone("child")
    assert maps.exists("owner")


def test_a_namesake_is_no_owner(maps: Resource) -> None:
    """An owner that is deleted and made again under its name is another: the old dependents go."""
    owner = maps.create(config_map("owner"))
    maps.create(config_map("child", ownerReferences=owned_by(owner)))
    maps.delete("owner", propagationPolicy="Background")
    maps.create(config_map("owner"))
    maps.wait_gone("child")
    assert maps.exists("owner")


def test_over_kinds(ns: Namespace, maps: Resource, widgets: Resource, widgets_group: str) -> None:
    """A custom resource owns built-in ones."""
    owner = widgets.create(custom(widgets_group, "owner"))
    maps.create(config_map("child", ownerReferences=owned_by(owner)))
    ns("secrets").create(secret("child", metadata={"name": "child", "ownerReferences": owned_by(owner)}))
    widgets.delete("owner", propagationPolicy="Background")
    maps.wait_gone("child")
    ns("secrets").wait_gone("child")


def test_another_namespace_owns_nothing(maps: Resource, namespaces) -> None:
    """A reference to a name that lives in another namespace is to nobody."""
    elsewhere = namespaces()("configmaps").create(config_map("owner"))
    maps.create(config_map("child", ownerReferences=owned_by(elsewhere)))
    maps.wait_gone("child")


def test_a_cluster_scoped_owner(api, ns: Namespace, maps: Resource, own, unique) -> None:
    """A cluster-scoped object may own namespaced ones."""
    owner = own(
        "rbac.authorization.k8s.io/v1/clusterroles",
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": unique()},
            "rules": [],
        },
    )
    maps.create(config_map("child", ownerReferences=owned_by(owner)))
    api.resource("rbac.authorization.k8s.io/v1/clusterroles").delete(owner["metadata"]["name"])
    maps.wait_gone("child")

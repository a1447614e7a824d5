"""Namespaces: their label, their phase, their end."""

import pytest

from .client import Api, refused
from .objects import config_map, custom, namespace, pod, secret, service_account
from .surroundings import Namespace


def test_a_new_namespace(api: Api, ns: Namespace) -> None:
    """Active, with the finalizer that waits for its content, and its name as a label."""
    got = api.resource("namespaces").get(ns.name)
    assert got["status"] == {"phase": "Active"}
    assert got["spec"] == {"finalizers": ["kubernetes"]}
    assert got["metadata"]["labels"] == {"kubernetes.io/metadata.name": ns.name}
    assert "generation" not in got["metadata"]


def test_the_name_label_stays(api: Api, ns: Namespace) -> None:
    """The label is put back or refused, whatever a client says."""
    namespaces = api.resource("namespaces")
    got = namespaces.patch(ns.name, {"metadata": {"labels": {"kubernetes.io/metadata.name": None, "x": "1"}}})
    assert got["metadata"]["labels"] == {"kubernetes.io/metadata.name": ns.name, "x": "1"}
    assert ns.name in namespaces.names(labelSelector=f"kubernetes.io/metadata.name={ns.name}")


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public"])
def test_some_cannot_be_deleted(api: Api, name: str) -> None:
    """The namespaces the system lives in are there and stay."""
    with refused(403, "Forbidden", "this namespace may not be deleted"):
        api.resource("namespaces").delete(name)


def test_the_first_namespaces(api: Api) -> None:
    """default, kube-system, kube-public and kube-node-lease are made by the server."""
    assert {"default", "kube-system", "kube-public", "kube-node-lease"} <= set(api.resource("namespaces").names())


def test_delete_marks(api: Api, ns: Namespace) -> None:
    """A delete answers with the namespace, Terminating, with a deletionTimestamp."""
    got = api.resource("namespaces").delete(ns.name)
    assert (got["kind"], got["status"]["phase"]) == ("Namespace", "Terminating")
    assert got["metadata"]["deletionTimestamp"]


def test_nothing_new_in_a_dying_namespace(api: Api, ns: Namespace, widgets_group: str) -> None:
    """Creation is forbidden with the cause NamespaceTerminating; this holds for custom resources too."""
    ns("secrets").create(secret("hold", metadata={"name": "hold", "finalizers": ["example.com/a"]}))
    api.resource("namespaces").delete(ns.name)
    widgets = ns(f"{widgets_group}/v1/widgets")
    for attempt in (
        lambda: ns("configmaps").create(config_map("late")),
        lambda: widgets.create(custom(widgets_group, "late")),
    ):
        with refused(403, "Forbidden", "because it is being terminated") as error:
            attempt()
        assert error.details["causes"][0]["reason"] == "NamespaceTerminating"
        assert ns.name in error.message
    ns("secrets").patch("hold", {"metadata": {"finalizers": None}})


def test_finalize(api: Api, own, unique) -> None:
    """The finalize subresource takes the last finalizer off, and the namespace goes."""
    name = unique()
    namespaces = api.resource("namespaces")
    made = namespaces.create(namespace(name))
    assert namespaces.replace(made | {"spec": {"finalizers": ["example.com/x"]}}, "finalize")["spec"] == {
        "finalizers": ["example.com/x"]
    }
    namespaces.delete(name)
    assert namespaces.get(name)["status"]["phase"] == "Terminating"
    dying = namespaces.get(name)
    namespaces.replace(dying | {"spec": {"finalizers": []}}, "finalize")
    namespaces.wait_gone(name)


@pytest.mark.needs_controllers
def test_the_end_takes_everything(api: Api, ns: Namespace, widgets_group: str) -> None:
    """All content goes, built-in and custom, then the namespace."""
    ns.admit_pods()
    ns("configmaps").create(config_map("one"))
    ns("secrets").create(secret("one"))
    ns("serviceaccounts").create(service_account("one"))
    ns("pods").create(pod("one", schedulerName="none"))
    ns(f"{widgets_group}/v1/widgets").create(custom(widgets_group, "one"))
    namespaces = api.resource("namespaces")
    namespaces.delete(ns.name)
    namespaces.wait_gone(ns.name)
    for resource in ("configmaps", "secrets", "serviceaccounts", "pods", f"{widgets_group}/v1/widgets"):
        assert ns(resource).names() == []


@pytest.mark.needs_controllers
def test_the_end_waits_for_finalizers(api: Api, ns: Namespace) -> None:
    """Content with a finalizer holds the namespace; a condition says so; it ends when the finalizer goes."""
    ns("configmaps").create(config_map("held", finalizers=["example.com/a"]))
    namespaces = api.resource("namespaces")
    namespaces.delete(ns.name)
    got = namespaces.wait(
        ns.name,
        lambda one: any(
            c["type"] == "NamespaceFinalizersRemaining" and c["status"] == "True"
            for c in one["status"].get("conditions", [])
        ),
    )
    assert got["status"]["phase"] == "Terminating"
    ns("configmaps").patch("held", {"metadata": {"finalizers": None}})
    namespaces.wait_gone(ns.name)

"""What admission adds to objects and what it refuses."""

import copy

import pytest
from tests.apiserver.security.builders import Objects, admission, thing

from mizzen.local.apiserver.errors import Forbidden, NotFound
from mizzen.local.apiserver.security.admission import TOKEN_PATH, Plugin, plugins
from mizzen.local.apiserver.security.rbac import Authorizer
from mizzen.local.apiserver.types import AdmissionContext, Json


@pytest.fixture
def objects() -> Objects:
    return Objects(
        thing("Namespace", "apps", status={"phase": "Active"}),
        thing("Namespace", "ending", status={"phase": "Terminating"}),
        thing("Namespace", "deleted", metadata={"deletionTimestamp": "t"}),
        thing("ServiceAccount", "default", "apps"),
        thing("ServiceAccount", "silent", "apps", automountServiceAccountToken=False),
        thing("ServiceAccount", "pulling", "apps", imagePullSecrets=[{"name": "registry"}]),
    )


def admit(objects: Objects, context: AdmissionContext, made: Json) -> Json:
    chain: tuple[Plugin, ...] = plugins(Authorizer(objects), name_suffix=lambda: "abcde")
    before = copy.deepcopy(made)
    result = made
    for plugin in chain:
        result = plugin(context, result)
    assert made == before, "objects are not changed in place"
    return result


def pod(**spec: object) -> Json:
    return {"kind": "Pod", "metadata": {"name": "it"}, "spec": {"containers": [{"name": "c"}], **spec}}


# Namespaces


def test_nothing_is_written_in_a_namespace_that_is_not_there(objects: Objects) -> None:
    for operation in ("CREATE", "UPDATE"):
        with pytest.raises(NotFound) as caught:
            admit(objects, admission("ConfigMap", operation, objects=objects, namespace="nowhere"), {"metadata": {}})
        assert caught.value.to_status()["message"] == 'namespaces "nowhere" not found'
        assert caught.value.to_status()["details"] == {"name": "nowhere", "kind": "namespaces"}


@pytest.mark.parametrize("namespace", ["ending", "deleted"])
def test_nothing_is_created_in_a_namespace_that_is_ending(objects: Objects, namespace: str) -> None:
    with pytest.raises(Forbidden) as caught:
        admit(objects, admission("ConfigMap", objects=objects, namespace=namespace), {"metadata": {}})
    assert caught.value.message == (
        f'configmaps "it" is forbidden: unable to create new content in namespace {namespace} '
        "because it is being terminated"
    )
    (cause,) = caught.value.causes
    assert (cause.reason, cause.field) == ("NamespaceTerminating", "metadata.namespace")


@pytest.mark.parametrize(
    ("operation", "namespace"), [("UPDATE", "ending"), ("DELETE", "ending"), ("DELETE", "nowhere")]
)
def test_what_is_there_may_still_be_ended(objects: Objects, operation: str, namespace: str) -> None:
    admit(objects, admission("ConfigMap", operation, objects=objects, namespace=namespace), {"metadata": {}})


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public"])
def test_the_clusters_own_namespaces_are_not_deleted(objects: Objects, name: str) -> None:
    with pytest.raises(Forbidden, match=f'namespaces "{name}" is forbidden: this namespace may not be deleted'):
        admit(objects, admission("Namespace", "DELETE", objects=objects, namespace="", name=name), {"metadata": {}})


def test_other_namespaces_and_cluster_wide_objects_are(objects: Objects) -> None:
    admit(objects, admission("Namespace", "DELETE", objects=objects, namespace="", name="apps"), {"metadata": {}})
    admit(objects, admission("Namespace", objects=objects, namespace="", name="new"), {"metadata": {}})
    admit(objects, admission("Node", objects=objects, namespace="", name="n"), {"metadata": {}})


def test_a_review_does_not_tell_which_namespaces_there_are(objects: Objects) -> None:
    admit(objects, admission("LocalSubjectAccessReview", objects=objects, namespace="nowhere"), {"spec": {}})


# Service accounts


def test_a_pod_runs_as_the_default_account_and_finds_its_token(objects: Objects) -> None:
    """Volume, mount and names as the real server makes them."""
    spec = admit(objects, admission("Pod", objects=objects), pod())["spec"]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")
    assert spec["containers"] == [
        {
            "name": "c",
            "volumeMounts": [{"name": "kube-api-access-abcde", "readOnly": True, "mountPath": TOKEN_PATH}],
        }
    ]
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    assert spec["volumes"] == [
        {
            "name": "kube-api-access-abcde",
            "projected": {
                "defaultMode": 420,
                "sources": [
                    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
                ],
            },
        }
    ]


@pytest.mark.parametrize(
    ("spec", "mounted"),
    [
        ({"automountServiceAccountToken": False}, False),
        ({"serviceAccountName": "silent"}, False),
        ({"serviceAccountName": "silent", "automountServiceAccountToken": True}, True),
        ({"serviceAccountName": "pulling"}, True),
    ],
)
def test_a_pods_wish_wins_over_its_accounts(objects: Objects, spec: Json, *, mounted: bool) -> None:
    admitted = admit(objects, admission("Pod", objects=objects), pod(**spec))["spec"]
    assert ("volumes" in admitted) is mounted
    assert ("volumeMounts" in admitted["containers"][0]) is mounted


def test_a_container_that_mounts_its_own_there_is_left_alone(objects: Objects) -> None:
    own = {"name": "mine", "mountPath": TOKEN_PATH}
    made = pod(containers=[{"name": "c", "volumeMounts": [own]}], initContainers=[{"name": "i"}])
    spec = admit(objects, admission("Pod", objects=objects), made)["spec"]
    assert spec["containers"][0]["volumeMounts"] == [own]
    assert spec["initContainers"][0]["volumeMounts"][0]["name"] == "kube-api-access-abcde"
    assert [volume["name"] for volume in spec["volumes"]] == ["kube-api-access-abcde"]
    alone = admit(objects, admission("Pod", objects=objects), pod(containers=[{"name": "c", "volumeMounts": [own]}]))
    assert "volumes" not in alone["spec"], "nobody would mount it"


def test_a_volume_that_is_already_there_is_used(objects: Objects) -> None:
    """A Pod copied from another cluster brings its own."""
    volume = {"name": "kube-api-access-xyzzy", "projected": {"sources": []}}
    spec = admit(objects, admission("Pod", objects=objects), pod(volumes=[volume]))["spec"]
    assert spec["volumes"] == [volume]
    assert spec["containers"][0]["volumeMounts"][0]["name"] == "kube-api-access-xyzzy"


def test_an_account_that_is_not_there(objects: Objects) -> None:
    with pytest.raises(Forbidden) as caught:
        admit(objects, admission("Pod", objects=objects), pod(serviceAccountName="nope"))
    assert caught.value.message == (
        'pods "it" is forbidden: error looking up service account apps/nope: serviceaccount "nope" not found'
    )


def test_image_pull_secrets_come_from_the_account(objects: Objects) -> None:
    spec = admit(objects, admission("Pod", objects=objects), pod(serviceAccountName="pulling"))["spec"]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    own = pod(serviceAccountName="pulling", imagePullSecrets=[{"name": "own"}])
    assert admit(objects, admission("Pod", objects=objects), own)["spec"]["imagePullSecrets"] == [{"name": "own"}]


@pytest.mark.parametrize(("operation", "subresource"), [("UPDATE", ""), ("CREATE", "binding"), ("UPDATE", "status")])
def test_only_new_pods_get_an_account(objects: Objects, operation: str, subresource: str) -> None:
    context = admission("Pod", operation, objects=objects, subresource=subresource)
    assert "serviceAccountName" not in admit(objects, context, pod())["spec"]


# Tolerations


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ([], ["not-ready", "unreachable"]),
        ([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}], ["unreachable"]),
        ([{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}], ["unreachable"]),
        ([{"operator": "Exists"}], []),
        ([{"operator": "Exists", "effect": "NoExecute"}], []),
        ([{"operator": "Exists", "effect": "NoSchedule"}], ["not-ready", "unreachable"]),
        ([{"key": "other", "operator": "Exists"}], ["not-ready", "unreachable"]),
    ],
)
def test_a_pod_waits_five_minutes_for_a_lost_node_unless_it_says_otherwise(
    objects: Objects, given: list, added: list
) -> None:
    spec = admit(objects, admission("Pod", objects=objects), pod(tolerations=given))["spec"]
    assert spec["tolerations"] == given + [
        {"key": f"node.kubernetes.io/{taint}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
        for taint in added
    ]


def test_admission_is_idempotent(objects: Objects) -> None:
    """A Pod that went through once is not changed by going through again."""
    once = admit(objects, admission("Pod", objects=objects), pod())
    assert admit(objects, admission("Pod", objects=objects), once) == once

"""A container's environment and command line, in Kubernetes' order and words."""

import base64

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.node.builders import container, pod

from mizzen.local.node.environment import ConfigError, NodeFacts, command, environment, expand
from mizzen.local.node.references import Source, sources_of

FACTS = NodeFacts("n1", "127.0.0.1", 4.0, 8 * 2**30)
SETTINGS = Source("ConfigMap", "default", "settings")
KEYS = Source("Secret", "default", "keys")


def encoded(text: bytes) -> str:
    return base64.b64encode(text).decode()


def environment_of(given_container: dict, sources: dict | None = None, provided: dict | None = None, **meta) -> dict:
    whole = pod(given_container, meta=meta)
    return environment(whole, whole.containers[0], provided or {}, sources or {}, FACTS)


EXPANSIONS = {
    # the cases of k8s.io/kubernetes/third_party/forked/golang/expansion/expand_test.go
    "$(VAR_A)": "A",
    "___$(VAR_B)___": "___B___",
    "$(VAR_A)_$(VAR_B)": "A_B",
    "$$(VAR_B)_$(VAR_A)": "$(VAR_B)_A",
    "$$$(VAR_A)": "$A",
    "f000-$$VAR_A": "f000-$VAR_A",
    "$(VAR_DNE)": "$(VAR_DNE)",
    "$(VAR_EMPTY)": "",
    "$VAR_A": "$VAR_A",
    "$": "$",
    "$(": "$(",
    "$$": "$",
    "$(VAR_A": "$(VAR_A",
    "$((VAR_A)": "$((VAR_A)",
    "foo\\$(VAR_A)": "foo\\A",
    "$(VAR_A)(VAR_B)": "A(VAR_B)",
    "$($$)": "$($$)",
    "": "",
}


@pytest.mark.parametrize("text", EXPANSIONS)
def test_expansion_is_kubernetes_own(text: str) -> None:
    assert expand(text, {"VAR_A": "A", "VAR_B": "B", "VAR_EMPTY": ""}) == EXPANSIONS[text]


@given(st.text(alphabet="ab$() "))
def test_expansion_of_nothing_known_only_unescapes(text: str) -> None:
    assume("$(" not in text.replace("$$", ""))  # what stands in a reference that is not known stays as it is
    assert expand(text, {}) == text.replace("$$", "$")


def test_later_entries_win_and_may_use_earlier_ones() -> None:
    """The node's own, then envFrom, then env; a reference sees what was defined before it, not after."""
    sources = {SETTINGS: {"data": {"A": "from map", "B": "map"}}, KEYS: {"data": {"B": encoded(b"secret")}}}
    found = environment_of(
        container(
            envFrom=[
                {"configMapRef": {"name": "settings"}},
                {"secretRef": {"name": "keys"}},
                {"prefix": "P_", "configMapRef": {"name": "settings"}},
            ],
            env=[
                {"name": "C", "value": "$(A)/$(B)/$(PATH)/$(LATER)"},
                {"name": "LATER", "value": "x"},
                {"name": "A", "value": "own"},
            ],
        ),
        sources,
        {"PATH": "/bin", "A": "provided"},
    )
    assert found == {
        "PATH": "/bin", "A": "own", "B": "secret", "P_A": "from map", "P_B": "map",
        "C": "from map/secret//bin/$(LATER)", "LATER": "x",
    }  # fmt: skip


def test_what_the_node_promises_cannot_be_overridden() -> None:
    found = environment_of(
        container(env=[{"name": "MIZZEN_ROOTFS", "value": "/"}, {"name": "PATH", "value": "/mine"}]),
        provided={"MIZZEN_ROOTFS": "/pod", "PATH": "/bin"},
    )
    assert found == {"MIZZEN_ROOTFS": "/pod", "PATH": "/mine"}


FIELDS = {
    "metadata.name": "p", "metadata.namespace": "default", "metadata.uid": "u",
    "metadata.labels['app']": "web", "metadata.labels['none']": "", "metadata.annotations['a/b']": "c",
    "spec.nodeName": "n1", "spec.serviceAccountName": "default", "status.podIP": "127.0.0.1", "status.hostIP": "127.0.0.1",
}  # fmt: skip


@pytest.mark.parametrize("path", FIELDS)
def test_fields_of_the_pod(path: str) -> None:
    variable = {"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}
    found = environment_of(container(env=[variable]), uid="u", labels={"app": "web"}, annotations={"a/b": "c"})
    assert found == {"X": FIELDS[path]}


RESOURCES = {
    ("limits.cpu", "1"): "2", ("limits.cpu", "1m"): "1500", ("limits.memory", "1Mi"): "512",
    ("requests.memory", "0"): "536870912", ("limits.memory", "1Gi"): "1", ("requests.cpu", "1m"): "250",
}  # fmt: skip


@pytest.mark.parametrize(("resource", "divisor"), RESOURCES)
def test_resources_in_units_of_the_divisor_rounded_up(resource: str, divisor: str) -> None:
    wanted = {"name": "X", "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": divisor}}}
    resources = {"limits": {"cpu": "1500m", "memory": "512Mi"}, "requests": {"cpu": "250m"}}
    assert environment_of(container(env=[wanted], resources=resources)) == {"X": RESOURCES[resource, divisor]}


def test_a_limit_that_is_not_set_is_the_nodes_own() -> None:
    wanted = {"name": "X", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}
    assert environment_of(container(env=[wanted])) == {"X": "4"}


REFUSED = {
    "missing map": ({"configMapKeyRef": {"name": "none", "key": "k"}}, "configmap 'none' not found"),
    "missing secret": ({"secretKeyRef": {"name": "none", "key": "k"}}, "secret 'none' not found"),
    "missing key": (
        {"configMapKeyRef": {"name": "settings", "key": "k"}},
        "couldn't find key k in ConfigMap default/settings",
    ),
    "binary": ({"secretKeyRef": {"name": "keys", "key": "binary"}}, "key 'binary': expected text, found bytes"),
    "NUL": ({"secretKeyRef": {"name": "keys", "key": "nul"}}, "key 'nul': expected text, found a NUL byte"),
    "unknown field": ({"fieldRef": {"fieldPath": "spec.x"}}, "fieldRef 'spec.x' is not supported"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_resolved_is_refused_in_words(case: str) -> None:
    origin, message = REFUSED[case]
    sources = {
        SETTINGS: {"data": {}},
        KEYS: {"data": {"binary": encoded(b"\xff\xfe"), "nul": encoded(b"a\0b")}},
        Source("ConfigMap", "default", "none"): None,
        Source("Secret", "default", "none"): None,
    }
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")) as caught:
        environment_of(container(env=[{"name": "X", "valueFrom": origin}]), sources)
    assert caught.value.reason == "CreateContainerConfigError"


def test_what_is_optional_may_be_missing() -> None:
    found = environment_of(
        container(
            envFrom=[{"configMapRef": {"name": "none", "optional": True}}],
            env=[{"name": "X", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k", "optional": True}}}],
        )
    )
    assert found == {}


def test_the_command_is_expanded_and_an_image_entrypoint_refused() -> None:
    whole = pod(container(command=["run", "$(A)"], args=["--x=$(A)", "$$(A)"]), container("second", command=None))
    assert command(whole.containers[0], {"A": "1"}) == ("run", "1", "--x=1", "$(A)")
    with pytest.raises(ConfigError, match="has no command") as caught:
        command(whole.containers[1], {})
    assert caught.value.reason == "CreateContainerError"


def test_all_that_a_pod_refers_to_is_found() -> None:
    whole = pod(
        container(
            envFrom=[{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "b"}}],
            env=[
                {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
                {"name": "Y", "valueFrom": {"secretKeyRef": {"name": "d", "key": "k"}}},
                {"name": "Z", "value": "plain"},
            ],
        ),
        volumes=[
            {"name": "1", "configMap": {"name": "e"}},
            {"name": "2", "secret": {"secretName": "f"}},
            {"name": "3", "projected": {"sources": [{"configMap": {"name": "g"}}, {"secret": {"name": "h"}}]}},
            {"name": "4", "emptyDir": {}},
        ],
    )
    assert {source.name for source in sources_of(whole)} == set("abcdefgh")

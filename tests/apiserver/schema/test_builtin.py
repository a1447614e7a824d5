"""Kubernetes' own types: their schemas, what is filled in, what is refused, what an update may not change.

Texts and defaults are those of a Kubernetes 1.36 API server.
"""

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.local.apiserver.errors import BadRequest, Cause
from mizzen.local.apiserver.schema import facts, metadata, models, rules
from mizzen.local.apiserver.schema.builtin import BUILTIN_TYPES, SUBRESOURCE_TYPES, definition_name
from mizzen.local.apiserver.schema.events import from_core, to_core
from mizzen.local.apiserver.schema.strict import admit
from mizzen.local.apiserver.schema.structural import default, prune, validate
from mizzen.local.apiserver.schema.updates import check_update
from mizzen.local.apiserver.types import Json, ResourceType

TYPES = {(rtype.group, rtype.kind): rtype for rtype in BUILTIN_TYPES}
C = {"name": "c", "image": "x"}
LABELS = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [C]}}


def pod(**spec: Any) -> Json:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [C], **spec}}


def deployment(**spec: Any) -> Json:
    body = {"selector": {"matchLabels": {"a": "b"}}, "template": LABELS, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": body}


def job(**spec: Any) -> Json:
    template = {"spec": {"restartPolicy": "Never", "containers": [C]}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": {"template": template, **spec}}


def service(**spec: Any) -> Json:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": spec}


def plain(kind: str, **fields: Any) -> Json:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}, **fields}


def type_of(obj: Json) -> ResourceType:
    return TYPES[obj["apiVersion"].rpartition("/")[0], obj["kind"]]


def filled(obj: Json) -> Json:
    return default(type_of(obj).schema, obj)


def texts(causes: list[Cause]) -> set[str]:
    return {f"{cause.field}: {cause.message}" for cause in causes}


@pytest.mark.parametrize("rtype", [*BUILTIN_TYPES, *SUBRESOURCE_TYPES.values()], ids=lambda rtype: rtype.kind)
def test_every_type_has_a_schema_without_references(rtype: ResourceType) -> None:
    schema = rtype.schema
    assert schema is rtype.schema
    assert models.references(schema) == set()
    assert {"apiVersion", "kind", "metadata"} <= set(schema["properties"])


def test_json_names_are_those_of_the_models() -> None:
    """`wire_name` goes by a rule; msgspec knows the truth."""
    wrong = []
    for module in models._MODULES.values():
        for model in vars(module).values():
            if isinstance(model, type) and issubclass(model, msgspec.Struct) and model.__annotations__:
                names = tuple(models.wire_name(name) for name in model.__annotations__)
                if names != model.__struct_encode_fields__:
                    wrong.append(model.__name__)
    assert wrong == []


def test_every_fact_is_about_a_field_that_is_there() -> None:
    fields = set()
    for module in models._MODULES.values():
        for name, model in vars(module).items():
            if isinstance(model, type) and model.__module__ == module.__name__:
                fields |= {name, *(f"{name}.{models.wire_name(field)}" for field in model.__annotations__)}
    told = {
        *facts.LIST_MAPS,
        *facts.LIST_SETS,
        *facts.PATCHED_OTHERWISE,
        *facts.ATOMIC,
        *facts.ENUMS,
        *facts.BYTE_FIELDS,
    }
    assert {place for place in told if place not in fields} == set()


def test_every_rule_is_about_a_definition_that_is_there() -> None:
    short = {
        rules.short_name(f"{prefix}.{name}") for prefix, module in models._MODULES.items() for name in vars(module)
    }
    told = {*rules.defaults.WHERE_ABSENT, *rules.defaults.WHERE_EMPTY, *rules.defaults.FUNCTIONS}
    assert {
        name for name in {*told, *rules.pod_checks.CHECKS, *rules.object_checks.CHECKS} if name not in short
    } == set()


def test_lists_say_how_they_are_merged() -> None:
    containers = TYPES["", "Pod"].schema["properties"]["spec"]["properties"]["containers"]
    ports = containers["items"]["properties"]["ports"]
    assert containers["x-kubernetes-list-map-keys"] == ["name"]
    assert (ports["x-kubernetes-list-map-keys"], ports["x-kubernetes-patch-merge-key"]) == (
        ["containerPort", "protocol"], "containerPort",
    )  # fmt: skip
    assert (
        TYPES["", "Pod"].schema["properties"]["spec"]["properties"]["tolerations"]["x-kubernetes-list-type"] == "atomic"
    )


def test_a_pod_gets_what_kubernetes_fills_in() -> None:
    probed = {**C, "livenessProbe": {"httpGet": {"port": 80}}, "resources": {"limits": {"cpu": "1"}}}
    volumes = [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}]
    assert filled(pod(containers=[probed], volumes=volumes)) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a"},
        "spec": {
            "containers": [
                {
                    **C,
                    "imagePullPolicy": "Always",
                    "livenessProbe": {
                        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                        "timeoutSeconds": 1,
                        "periodSeconds": 10,
                        "successThreshold": 1,
                        "failureThreshold": 3,
                    },
                    "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                }
            ],
            "dnsPolicy": "ClusterFirst",
            "enableServiceLinks": True,
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "terminationGracePeriodSeconds": 30,
            "volumes": [
                {"name": "v", "emptyDir": {}},
                {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}},
            ],
        },
        "status": {},
    }


def test_a_deployment_and_its_template_get_what_kubernetes_fills_in() -> None:
    spec = filled(deployment(template={**LABELS, "spec": {"containers": [{**C, "image": "x:1"}]}}))["spec"]
    assert {key: value for key, value in spec.items() if key != "template"} == {
        "progressDeadlineSeconds": 600,
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "selector": {"matchLabels": {"a": "b"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
    }
    assert spec["template"]["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert "enableServiceLinks" not in spec["template"]["spec"], "only Pods get it, templates do not"
    assert filled(deployment(strategy={"type": "Recreate"}))["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, {"parallelism": 1, "completions": 1, "backoffLimit": 6, "podReplacementPolicy": "TerminatingOrFailed"}),
        ({"parallelism": 3}, {"parallelism": 3, "completions": None}),
        ({"completions": 3}, {"parallelism": 1, "completions": 3}),
        ({"completionMode": "Indexed", "completions": 2, "backoffLimitPerIndex": 1}, {"backoffLimit": 2**31 - 1}),
        ({"podFailurePolicy": {"rules": []}}, {"podReplacementPolicy": "Failed"}),
    ],
)
def test_a_job_gets_what_kubernetes_fills_in(spec: Json, expected: Json) -> None:
    got = filled(job(**spec))["spec"]
    assert {key: got.get(key) for key in expected} == expected


def test_defaulting_is_stable() -> None:
    for obj in (pod(), deployment(), job(), service(ports=[{"port": 80}]), plain("Secret", stringData={"a": "b"})):
        once = filled(obj)
        assert default(type_of(obj).schema, once) is once


def test_a_secret_never_holds_its_string_data() -> None:
    got = filled(plain("Secret", data={"a": "YQ==", "b": "YQ=="}, stringData={"a": "d"}))
    assert got["data"] == {"a": "ZA==", "b": "YQ=="}
    assert "stringData" not in got


def test_base64_is_read_as_go_reads_it() -> None:
    """In several lines, as YAML likes to have it, and of nothing; it is stored in one line."""
    wrapped = plain("Secret", data={"a": "YWJj\nZGVm\n", "b": ""})
    assert admit(type_of(wrapped), wrapped)[0] == wrapped
    got = filled(wrapped)
    assert got["data"] == {"a": "YWJjZGVm", "b": ""}
    assert validate(type_of(got).schema, got) == []
    with pytest.raises(BadRequest, match="illegal base64"):
        admit(type_of(wrapped), plain("Secret", data={"a": "Y*"}))


def test_required_fields_that_go_always_writes_are_written() -> None:
    status = {"containerStatuses": [{"name": "c", "state": {}}]}
    got = filled({**pod(), "status": status})["status"]["containerStatuses"][0]
    expected = {
        "name": "c",
        "state": {},
        "lastState": {},
        "image": "",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
    }
    assert got == expected


REFUSED: list[tuple[Json, set[str]]] = [
    (pod(containers=[]), {"spec.containers: Required value"}),
    (pod(containers=[{}]), {"spec.containers[0].name: Required value", "spec.containers[0].image: Required value"}),
    (pod(containers=[C, C]), {'spec.containers[1].name: Duplicate value: "c"'}),
    (
        pod(restartPolicy="Sometimes"),
        {'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"'},
    ),
    (
        pod(containers=[{**C, "ports": [{"containerPort": 0}, {"containerPort": 70000}]}]),
        {
            "spec.containers[0].ports[0].containerPort: Required value",
            "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        },
    ),
    (
        pod(containers=[{**C, "volumeMounts": [{"name": "v", "mountPath": "/a"}]}]),
        {'spec.containers[0].volumeMounts[0].name: Not found: "v"'},
    ),
    (
        pod(containers=[{**C, "env": [{"name": "b", "valueFrom": {}}]}]),
        {
            (
                'spec.containers[0].env[0].valueFrom: Invalid value: "": must specify one of: `fieldRef`, '
                "`resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
            )
        },
    ),
    (
        pod(containers=[{**C, "livenessProbe": {}}]),
        {"spec.containers[0].livenessProbe: Required value: must specify a handler type"},
    ),
    (
        pod(containers=[{**C, "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": 2}}}]),
        {'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1'},
    ),
    (
        deployment(selector={"matchLabels": {"a": "c"}}),
        {
            'spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`',
        },
    ),
    (deployment(replicas=-1), {"spec.replicas: Invalid value: -1: must be greater than or equal to 0"}),
    (
        deployment(strategy={"type": "Recreate", "rollingUpdate": {}}),
        {"spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"},
    ),
    (
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}},
        {
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
            "spec.template.spec.containers: Required value",
        },
    ),
    (
        job(template={"spec": {"containers": [C]}}),
        {'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'},
    ),
    (
        job(completionMode="Indexed", parallelism=1),
        {"spec.completions: Required value: when completion mode is Indexed"},
    ),
    (service(), {"spec.ports: Required value"}),
    (
        service(ports=[{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]),
        {'spec.ports[1].name: Duplicate value: "a"'},
    ),
    (plain("Secret", type="kubernetes.io/tls"), {"data[tls.crt]: Required value", "data[tls.key]: Required value"}),
    (
        plain("ConfigMap", data={"..": "y"}),
        {"data[..]: Invalid value: \"..\": must not be '..'"},
    ),
    (
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "a"},
            "roleRef": {"kind": "Role", "name": "view"},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "X", "name": "x"}],
        },
        {'subjects[1].kind: Unsupported value: "X": supported values: "ServiceAccount", "User", "Group"'},
    ),
]


@pytest.mark.parametrize(("obj", "expected"), REFUSED, ids=[f"{obj['kind']}-{i}" for i, (obj, _) in enumerate(REFUSED)])
def test_wrong_objects_are_refused_in_kubernetes_words(obj: Json, expected: set[str]) -> None:
    assert texts(validate(type_of(obj).schema, filled(obj))) == expected


RIGHT = [
    pod(), deployment(), job(), service(ports=[{"port": 80}]), service(clusterIP="None"), plain("Secret"),
    plain("ConfigMap"),
]  # fmt: skip
RIGHT_BY_KIND = {obj["kind"]: obj for obj in RIGHT}


@pytest.mark.parametrize("obj", RIGHT, ids=lambda obj: obj["kind"])
def test_right_objects_are_accepted(obj: Json) -> None:
    rtype = type_of(obj)
    assert validate(rtype.schema, filled(obj)) == []
    assert prune(rtype.schema, obj) == (obj, [])


GATED = {"schedulingGates": [{"name": "a"}]}
FOR_A_WHILE = {"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}


def with_image(image: str) -> Json:
    return {"spec": {"restartPolicy": "Never", "containers": [{**C, "image": image}]}}


def with_node(name: str) -> Json:
    return {"spec": {"restartPolicy": "Never", "containers": [C], "nodeSelector": {"name": name}}}


def started(body: Json) -> Json:
    return {**body, "status": {"startTime": "2026-01-02T03:04:05Z", "active": 1}}


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (pod(), pod(nodeSelector={"a": "b"}), "spec"),
        (pod(), pod(containers=[C, {**C, "name": "d"}]), "spec.containers"),
        (pod(activeDeadlineSeconds=5), pod(activeDeadlineSeconds=6), "spec.activeDeadlineSeconds"),
        (deployment(), deployment(selector={"matchLabels": {"a": "b", "c": "d"}}), "spec.selector"),
        (job(completions=1), job(completions=2), "spec.completions"),
        (job(), job(template={"spec": {}}), "spec.template"),
        (job(suspend=True), job(suspend=True, template=with_image("other")), "spec.template"),
        (started(job(suspend=True)), job(suspend=True, template=with_node("n")), "spec.template"),
        (pod(**GATED, nodeSelector={"a": "b"}), pod(**GATED, nodeSelector={"a": "c"}), "spec.nodeSelector"),
        (pod(**GATED), pod(schedulingGates=[{"name": "b"}]), "spec.schedulingGates[0].name"),
        (pod(tolerations=[FOR_A_WHILE]), pod(tolerations=[{**FOR_A_WHILE, "key": "l"}]), "spec.tolerations"),
        (plain("Secret", type="a"), plain("Secret", type="b"), "type"),
        (plain("ConfigMap", immutable=True), plain("ConfigMap", immutable=True, data={"a": "b"}), "data"),
    ],
)
def test_updates_may_not_change_what_is_fixed(old: Json, new: Json, field: str) -> None:
    assert [cause.field for cause in check_update(type_of(old), new, old)] == [field]
    assert check_update(type_of(old), old, old) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (job(suspend=True), job(suspend=True, template=with_node("n"))),
        (pod(**GATED, nodeSelector={"a": "b"}), pod(**GATED, nodeSelector={"a": "b", "c": "d"})),
        (pod(**GATED), pod(schedulingGates=[])),
        (pod(tolerations=[FOR_A_WHILE]), pod(tolerations=[{**FOR_A_WHILE, "tolerationSeconds": 1}])),
    ],
)
def test_what_waits_may_still_be_told_where_to_go(old: Json, new: Json) -> None:
    assert check_update(type_of(old), new, old) == []


def test_a_pod_may_get_another_image_and_more_tolerations() -> None:
    new = pod(containers=[{**C, "image": "y"}], tolerations=[{"operator": "Exists"}])
    assert check_update(TYPES["", "Pod"], new, pod()) == []


def test_names_are_checked_by_kind() -> None:
    service_type, role_type = TYPES["", "Service"], TYPES["rbac.authorization.k8s.io", "ClusterRole"]
    assert texts(metadata.check(service_type, {"name": "a.b", "namespace": "n"})) == {
        'metadata.name: Invalid value: "a.b": must not contain dots'
    }
    assert metadata.check(role_type, {"name": "system:node"}) == []
    assert texts(metadata.check(TYPES["", "Node"], {"name": "n", "namespace": "x"})) == {
        "metadata.namespace: Forbidden: not allowed on this type"
    }
    assert texts(metadata.check(TYPES["", "Pod"], {"namespace": "n"})) == {
        "metadata.name: Required value: name or generateName is required"
    }


def test_metadata_that_an_update_may_not_change() -> None:
    old = {"name": "a", "uid": "1", "deletionTimestamp": "t", "finalizers": ["x/y"], "generation": 2}
    new = {**old, "uid": "2", "finalizers": ["x/y", "x/z"], "generation": 1}
    assert texts(metadata.check_update(new, old)) == {
        'metadata.uid: Invalid value: "2": field is immutable',
        "metadata.generation: Invalid value: 1: must not be decremented",
        (
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new "
            'finalizers []string{"x/z"}'
        ),
    }


def test_both_event_apis_show_the_same_event() -> None:
    core = {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod"},
        "message": "m", "reason": "r", "source": {"component": "c"}, "count": 3, "reportingComponent": "p",
    }  # fmt: skip
    newer = from_core(core)
    assert (newer["note"], newer["regarding"], newer["deprecatedCount"]) == ("m", {"kind": "Pod"}, 3)
    assert to_core(newer) == core
    assert prune(TYPES["events.k8s.io", "Event"].schema, newer)[1] == []


def test_definition_names_are_known_for_built_in_groups_only() -> None:
    assert definition_name("apps", "v1", "Deployment") == "io.k8s.api.apps.v1.Deployment"
    assert definition_name("mizzen.dev", "v1alpha1", "Model") is None


JUNK = st.sampled_from([None, True, 0, -1, 1.5, "", "x", [], {}, [None], [5], {"a": None}, {"": {}}, 10**30])


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in _places(item, (*path, key)))]


def _with(value: Any, path: tuple[Any, ...], junk: Any) -> Any:
    if not path:
        return junk
    changed = copy.copy(value)
    changed[path[0]] = _with(value[path[0]], path[1:], junk)
    return changed


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_no_object_is_too_strange_to_be_answered(data: st.DataObject) -> None:
    """Whatever stands in whatever place, the answer is the object as it is stored, or an error of the API."""
    obj = data.draw(st.sampled_from([*(obj for obj, _ in REFUSED), *RIGHT]))
    rtype = type_of(obj)
    for _ in range(data.draw(st.integers(1, 3))):
        places = _places(obj)[1:]
        obj = _with(obj, data.draw(st.sampled_from(places)), data.draw(JUNK)) if places else obj
    validate(rtype.schema, obj)
    try:
        read, _ = admit(rtype, obj, (), "Ignore")
    except BadRequest:
        return
    stored = default(rtype.schema, {**read, "metadata": {"name": "a", "uid": "u"}})
    validate(rtype.schema, stored)
    check_update(rtype, stored, filled(RIGHT_BY_KIND.get(rtype.kind, REFUSED[-1][0])))

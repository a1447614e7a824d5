"""Three sorts of class, one face: names, metadata, and JSON that survives the way there and back."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightkube.models.coordination_v1 import LeaseSpec
from lightkube.models.meta_v1 import ObjectMeta, OwnerReference
from lightkube.resources.apps_v1 import Deployment, DeploymentScale
from lightkube.resources.coordination_v1 import Lease
from lightkube.resources.core_v1 import ConfigMap, Node, Pod, PodStatus
from lightkube.resources.discovery_v1 import EndpointSlice

from mizzen.kinds import KINDS, Dataset, Model
from mizzen.kinds.meta import ObjectMeta as KindMeta
from mizzen.kinds.meta import OwnerReference as KindOwner
from mizzen.kube.errors import DecodeError
from mizzen.kube.resources import Key, Owner, ResourceInfo, decode, encode, info_of, meta_of, untyped
from mizzen.kube.times import format_micro_time, format_time, parse_time


def test_classes_name_their_place() -> None:
    assert info_of(Pod) == ResourceInfo("", "v1", "Pod", "pods", namespaced=True)
    assert info_of(Node) == ResourceInfo("", "v1", "Node", "nodes", namespaced=False)
    assert info_of(Deployment) == ResourceInfo("apps", "v1", "Deployment", "deployments", namespaced=True)
    for kind in KINDS:
        assert info_of(kind) == ResourceInfo("mizzen.dev", "v1alpha1", kind.__name__, kind.plural, namespaced=True)
    widget = ResourceInfo("x.io", "v1", "Widget", "widgets", namespaced=True)
    assert info_of(untyped(widget)) == widget
    assert untyped(widget) is untyped(ResourceInfo("x.io", "v1", "Widget", "widgets", namespaced=True))
    assert (str(widget), str(info_of(Pod))) == ("widgets.x.io", "pods")


@pytest.mark.parametrize("cls", [dict, int, PodStatus, DeploymentScale, ObjectMeta])
def test_what_is_no_kind_is_refused_with_what_is(cls: type) -> None:
    with pytest.raises(TypeError, match=r"expected one of mizzen\.kinds, a lightkube resource class"):
        info_of(cls)


def test_metadata_reads_the_same_from_all_three() -> None:
    wire = {
        "metadata": {
            "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 3,
            "labels": {"l": "1"}, "annotations": {"x": "2"}, "finalizers": ["f"],
            "creationTimestamp": "2026-01-02T03:04:05Z", "deletionTimestamp": "2026-01-02T03:04:06Z",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "o", "uid": "ou", "controller": True}],
        }
    }  # fmt: skip
    text = json.dumps(wire).encode()
    expected = meta_of(untyped(info_of(ConfigMap))(wire))
    assert expected.key == Key("n", "a")
    assert expected.controller == Owner("v1", "Pod", "o", "ou", controller=True)
    assert expected.created == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert meta_of(decode(ConfigMap, text)) == expected
    assert meta_of(decode(Model, text)) == expected
    assert meta_of(ConfigMap()) == meta_of(untyped(info_of(ConfigMap))())


def test_what_is_sent_says_what_it_is_and_leaves_out_what_is_empty() -> None:
    assert encode(ConfigMap(metadata=ObjectMeta(name="a"), data={"k": "v"})) == {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"},
    }  # fmt: skip
    model = encode(Model(metadata=KindMeta(name="a")))
    assert (model["apiVersion"], model["kind"], model["metadata"]) == ("mizzen.dev/v1alpha1", "Model", {"name": "a"})
    owner = KindOwner(api_version="v1", kind="Pod", name="o", uid="u", controller=True)
    owned = encode(Model(metadata=KindMeta(name="a", owner_references=[owner])))
    assert owned["metadata"]["ownerReferences"][0]["apiVersion"] == "v1"


moments = st.integers(0, 2**32 * 10**6).map(lambda us: datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us))
moments |= moments.map(lambda moment: moment.astimezone(timezone(timedelta(hours=-5))))


@given(moments)
def test_times_are_written_as_a_server_reads_them(moment: datetime) -> None:
    """MicroTime always with six digits, which Go insists on; Time with none."""
    lease = Lease(metadata=ObjectMeta(creationTimestamp=moment), spec=LeaseSpec(renewTime=moment))
    wire = encode(lease)
    assert wire["spec"]["renewTime"] == moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert wire["metadata"]["creationTimestamp"] == moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert decode(Lease, json.dumps(wire).encode()).spec.renewTime == moment
    assert parse_time(format_micro_time(moment)) == moment
    assert parse_time(format_time(moment)) == moment.replace(microsecond=0)


def test_times_deep_in_lists_are_found() -> None:
    pod = decode(Pod, b'{"status":{"containerStatuses":[{"name":"c","image":"i","imageID":"","ready":true,'
                      b'"restartCount":0,"state":{"running":{"startedAt":"2026-01-01T00:00:00.5Z"}}}]}}')  # fmt: skip
    assert encode(pod)["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] == "2026-01-01T00:00:00Z"


def test_null_where_go_writes_it_is_empty() -> None:
    slice_ = decode(EndpointSlice, b'{"addressType":"IPv4","endpoints":null,"metadata":{"creationTimestamp":null}}')
    assert (slice_.endpoints, slice_.metadata.creationTimestamp) == (None, None)
    pod = decode(Pod, b'{"spec":{"containers":null,"nodeName":null},"status":{}}')
    assert (pod.spec.containers, pod.spec.nodeName) == ([], None)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(DecodeError, match=r"pods n/a: cannot be read as Pod: .*containers"):
        decode(Pod, b'{"metadata":{"name":"a","namespace":"n"},"spec":{"containers":5}}')
    with pytest.raises(DecodeError, match=r"datasets.mizzen.dev a: cannot be read as Dataset"):
        decode(Dataset, b'{"metadata":{"name":"a"},"spec":{"source":1}}')
    for wire in (b"", b"not json", b"[]", b"null", b'"text"'):
        for cls in (Pod, Model, untyped(info_of(Pod))):
            with pytest.raises(DecodeError):
                decode(cls, wire)


def owners(obj: ConfigMap) -> list[str]:
    return [owner.kind for owner in meta_of(obj).owners]


def test_owner_references_of_structs() -> None:
    reference = OwnerReference(apiVersion="v1", kind="Pod", name="a", uid="u")
    assert owners(ConfigMap(metadata=ObjectMeta(ownerReferences=[reference]))) == ["Pod"]

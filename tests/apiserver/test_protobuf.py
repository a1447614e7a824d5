"""Kubernetes' protobuf bodies: those kubectl sent, and any that an encoder of our own makes."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.local.apiserver import protobuf
from mizzen.local.apiserver.protobuf import decoding

CAPTURED = json.loads((Path(__file__).parent / "data" / "kubectl_bodies.json").read_text())


@pytest.mark.parametrize("captured", CAPTURED, ids=lambda captured: captured["object"]["kind"])
def test_what_kubectl_sends(captured: dict[str, Any]) -> None:
    """Bodies of `kubectl create` and `kubectl auth can-i`, as they were on the wire."""
    assert protobuf.decode(bytes.fromhex(captured["body"])) == captured["object"]


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def text(value: str) -> bytes:
    return value.encode()


def body(api_version: str, kind: str, message: bytes) -> bytes:
    meta = field(1, text(api_version)) + field(2, text(kind))
    return b"k8s\x00" + field(1, meta) + field(2, message)


def metadata(name: str) -> bytes:
    return field(1, field(1, text(name)) + field(2, b"") + field(7, 0))


@given(
    st.text(min_size=1, max_size=8),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4),
    st.dictionaries(st.text(max_size=5), st.binary(max_size=9), max_size=4),
)
def test_maps_and_bytes(name: str, data: dict[str, str], binary: dict[str, bytes]) -> None:
    """A map is a list of pairs; bytes are base64 in JSON; what is empty is left out."""
    message = metadata(name)
    for key, value in data.items():
        message += field(2, field(1, text(key)) + field(2, text(value)))
    for key, raw in binary.items():
        message += field(3, field(1, text(key)) + field(2, raw))
    expected: dict[str, Any] = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}}
    if data:
        expected["data"] = data
    if binary:
        expected["binaryData"] = {key: base64.b64encode(raw).decode() for key, raw in binary.items()}
    assert protobuf.decode(body("v1", "ConfigMap", message)) == expected


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1))
def test_integers_and_zeros_that_were_meant(replicas: int, wide: int) -> None:
    """A pointer to zero is zero; a plain zero is nothing; negative numbers are ten bytes long."""
    spec = field(1, replicas) + field(5, 0)
    deployment = protobuf.decode(body("apps/v1", "Deployment", metadata("d") + field(2, spec)))
    assert deployment["spec"] == {"replicas": replicas}
    pod = protobuf.decode(body("v1", "Pod", metadata("p") + field(2, field(5, wide))))
    assert pod["spec"] == {"activeDeadlineSeconds": wide}


def test_the_special_types() -> None:
    """Quantities, times, ports that may be names, and JSON inside."""
    quantity = field(1, text("1500m"))
    resources = field(1, field(1, text("cpu")) + field(2, quantity))
    by_name, by_number = field(1, 1) + field(3, text("http")), field(1, 0) + field(2, 8080)
    probe = field(1, field(2, field(1, text("/ok")) + field(2, by_name))) + field(3, 5)
    container = field(1, text("main")) + field(8, resources) + field(10, probe)
    created = field(1, 1_767_225_600) + field(2, 0)
    message = field(1, field(1, text("p")) + field(8, created)) + field(2, field(2, container))
    pod = protobuf.decode(body("v1", "Pod", message))
    assert pod["metadata"] == {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"}
    main = pod["spec"]["containers"][0]
    assert main["resources"] == {"limits": {"cpu": "1500m"}}
    assert main["livenessProbe"] == {"httpGet": {"path": "/ok", "port": "http"}, "timeoutSeconds": 5}
    assert decoding._int_or_string(by_number) == 8080
    lease = field(2, field(1, text("me")) + field(4, field(1, 1_767_225_600) + field(2, 5_000)))
    assert protobuf.decode(body("coordination.k8s.io/v1", "Lease", lease))["spec"] == {
        "holderIdentity": "me",
        "renewTime": "2026-01-01T00:00:00.000005Z",
    }


def test_a_definition_with_every_kind_of_schema() -> None:
    """JSON Schemas hold JSON, schemas or booleans, and schemas or lists of them."""
    raw = lambda value: field(1, text(json.dumps(value)))
    number = field(5, text("integer")) + varint(11 << 3 | 1) + struct.pack("<d", 0.5) + field(8, raw(3))
    either = field(1, 1) + field(2, field(5, text("string")))
    schema = (
        field(5, text("object"))
        + field(29, field(1, text("n")) + field(2, number))
        + field(
            29, field(1, text("l")) + field(2, field(5, text("array")) + field(24, field(1, field(5, text("string")))))
        )
        + field(30, either)
        + field(20, raw({"a": 1}))
        + field(20, raw("b"))
    )
    version = field(1, text("v1")) + field(2, 1) + field(3, 1) + field(4, field(1, schema)) + field(5, field(1, b""))
    made = protobuf.decode(body("apiextensions.k8s.io/v1", "CustomResourceDefinition", field(2, field(7, version))))
    assert made["spec"]["versions"] == [
        {
            "name": "v1",
            "served": True,
            "storage": True,
            "schema": {
                "openAPIV3Schema": {
                    "type": "object",
                    "enum": [{"a": 1}, "b"],
                    "properties": {
                        "n": {"type": "integer", "minimum": 0.5, "default": 3},
                        "l": {"type": "array", "items": {"type": "string"}},
                    },
                    "additionalProperties": {"type": "string"},
                }
            },
            "subresources": {"status": {}},
        }
    ]


def test_lists_may_be_packed() -> None:
    codes = field(1, text("In")) + field(2, text("In")) + varint(3 << 3 | 2) + varint(3) + bytes([1, 2, 3])
    unpacked = field(1, text("c")) + field(2, text("In")) + field(3, 1) + field(3, 2) + field(3, 3)
    for message in (codes, unpacked):
        assert decoding._object("batch.v1.PodFailurePolicyOnExitCodesRequirement", message)["values"] == [1, 2, 3]


def test_delete_options_of_any_group() -> None:
    message = field(1, 0) + field(4, text("Foreground"))
    assert protobuf.decode(body("apps/v1", "DeleteOptions", message)) == {
        "kind": "DeleteOptions",
        "apiVersion": "apps/v1",
        "gracePeriodSeconds": 0,
        "propagationPolicy": "Foreground",
    }


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(noise: bytes) -> None:
    for content in (noise, b"k8s\x00" + noise, body("v1", "Pod", noise)):
        try:
            protobuf.decode(content)
        except protobuf.Undecodable:
            continue


def test_types_that_have_no_such_form() -> None:
    with pytest.raises(protobuf.UnknownType, match="Widget of example.com/v1"):
        protobuf.decode(body("example.com/v1", "Widget", b""))

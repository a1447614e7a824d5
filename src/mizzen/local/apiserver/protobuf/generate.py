"""Makes `fields.txt` from Kubernetes' Go sources: `python -m mizzen.local.apiserver.protobuf.generate API MACHINERY
EXTENSIONS`

The arguments are checkouts of kubernetes/api, kubernetes/apimachinery and kubernetes/apiextensions-apiserver. The Go
structs say everything at once: the JSON name, the protobuf number, and by a pointer whether a zero was meant. Only what
can be reached from the types that are served is kept.
"""

import re
import sys
from pathlib import Path
from typing import NamedTuple

_SOURCES = {
    "core.v1": (0, "core/v1"),
    "apps.v1": (0, "apps/v1"),
    "batch.v1": (0, "batch/v1"),
    "rbac.v1": (0, "rbac/v1"),
    "coordination.v1": (0, "coordination/v1"),
    "discovery.v1": (0, "discovery/v1"),
    "events.v1": (0, "events/v1"),
    "policy.v1": (0, "policy/v1"),
    "autoscaling.v1": (0, "autoscaling/v1"),
    "authentication.v1": (0, "authentication/v1"),
    "authorization.v1": (0, "authorization/v1"),
    "meta.v1": (1, "pkg/apis/meta/v1"),
    "apiextensions.v1": (2, "pkg/apis/apiextensions/v1"),
}
_ALIASES = {"v1": "core.v1", "corev1": "core.v1", "metav1": "meta.v1"}
"""What the sources import packages as; `v1` is core everywhere but in core itself."""
_SPECIAL = {
    "resource.Quantity": "quantity",
    "intstr.IntOrString": "int-or-string",
    "runtime.RawExtension": "raw",
    "meta.v1.FieldsV1": "raw",
    "apiextensions.v1.JSON": "raw",
    "meta.v1.Time": "time",
    "meta.v1.MicroTime": "micro-time",
    "authentication.v1.ExtraValue": "strings",
    "authorization.v1.ExtraValue": "strings",
    "types.UID": "string",
    "types.NodeName": "string",
    "apiextensions.v1.JSONSchemaPropsOrBool": "schema-or-bool",
    "apiextensions.v1.JSONSchemaPropsOrArray": "schema-or-array",
    "apiextensions.v1.JSONSchemaPropsOrStringArray": "schema-or-strings",
}
_BASIC = {
    "string": "string",
    "bool": "bool",
    "int32": "int",
    "int64": "int",
    "int": "int",
    "float64": "double",
    "[]byte": "bytes",
}
_ROOTS = {
    "core.v1": (
        "Binding", "ConfigMap", "Event", "Namespace", "Node", "Pod", "Secret", "Service", "ServiceAccount",
    ),
    "apps.v1": ("Deployment", "ReplicaSet"),
    "batch.v1": ("Job",),
    "rbac.v1": ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
    "coordination.v1": ("Lease",),
    "discovery.v1": ("EndpointSlice",),
    "events.v1": ("Event",),
    "policy.v1": ("Eviction",),
    "autoscaling.v1": ("Scale",),
    "authentication.v1": ("SelfSubjectReview", "TokenRequest", "TokenReview"),
    "authorization.v1": (
        "LocalSubjectAccessReview", "SelfSubjectAccessReview", "SelfSubjectRulesReview", "SubjectAccessReview",
    ),
    "meta.v1": ("DeleteOptions",),
    "apiextensions.v1": ("CustomResourceDefinition",),
}  # fmt: skip

_STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"^\s*(?:type )?(\w+) ((?:\*|\[\]|map\[[\w.]+\])*[\w.]+)$", re.MULTILINE)
_FIELD = re.compile(r'^\s*(?:(\w+)\s+)?(\S+)\s+`json:"([^"]*)"[^`\n]* protobuf:"\w+,(\d+),[^"]*"', re.MULTILINE)


class Field(NamedTuple):
    number: int
    name: str
    """Empty: the fields of the message are fields of the object."""
    type: str
    kept: bool
    """Whether a zero is said in JSON too."""


def main(checkouts: list[Path]) -> str:
    """The table's text."""
    structs: dict[str, list[Field]] = {}
    named: dict[str, str] = {}
    for package, (checkout, folder) in _SOURCES.items():
        text = "\n".join(path.read_text() for path in sorted((checkouts[checkout] / folder).glob("types*.go")))
        text = re.sub(r"^\s*//.*\n", "", text, flags=re.MULTILINE)
        for name, body in _STRUCT.findall(text):
            structs[f"{package}.{name}"] = [_field(package, *found) for found in _FIELD.findall(body)]
        for name, underlying in _NAMED.findall(text):
            named.setdefault(f"{package}.{name}", _qualified(package, underlying))
    lines: list[str] = []
    wanted = [f"{package}.{name}" for package, names in _ROOTS.items() for name in names]
    done = set(wanted)
    for message in wanted:  # grows while it is walked
        lines.append(message)
        for field in structs[message]:
            resolved = _resolved(field.type, structs, named)
            lines.append(f" {field.number} {field.name or '-'} {resolved}{'!' if field.kept else ''}")
            leaf = re.sub(r"^(?:\*|\[\]|\{\})*", "", resolved)
            if leaf in structs and leaf not in done:
                done.add(leaf)
                wanted.append(leaf)
    return "\n".join(lines) + "\n"


def _field(package: str, go_name: str, go_type: str, json_tag: str, number: str) -> Field:
    name, _, options = json_tag.partition(",")
    embedded = not go_name and not name
    qualified = _qualified(package, go_type)
    plain = not qualified.startswith(("*", "[]", "{}"))
    return Field(
        int(number), "" if embedded else name, qualified, plain and "omitempty" not in options and not embedded
    )


def _qualified(package: str, go_type: str) -> str:
    """The type with its package: `*`, `[]` and `{}` (a map by strings) before it."""
    if go_type in _BASIC:
        return _BASIC[go_type]
    for prefix, short in (("*", "*"), ("[]", "[]")):
        if go_type.startswith(prefix):
            return short + _qualified(package, go_type.removeprefix(prefix))
    if go_type.startswith("map["):
        return "{}" + _qualified(package, go_type.partition("]")[2])
    module, dot, name = go_type.rpartition(".")
    if not dot:
        return _SPECIAL.get(f"{package}.{name}", f"{package}.{name}")
    known = f"{_ALIASES.get(module, module)}.{name}"
    return _SPECIAL.get(known, known)


def _resolved(field_type: str, structs: dict[str, list[Field]], named: dict[str, str]) -> str:
    match = re.match(r"^((?:\*|\[\]|\{\})*)(.*)$", field_type)
    assert match is not None
    prefix, leaf = match[1], match[2]
    while leaf in named and leaf not in structs:
        inner = re.match(r"^((?:\*|\[\]|\{\})*)(.*)$", named[leaf])
        assert inner is not None
        prefix, leaf = prefix + inner[1], inner[2]
    return prefix + leaf


if __name__ == "__main__":
    (Path(__file__).parent / "fields.txt").write_text(main([Path(argument) for argument in sys.argv[1:]]))

"""kubectl against the server: what people type, and what they see."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from .client import Api, Server, eventually
from .objects import config_map, crd, custom, deployment, fields, schema
from .surroundings import Namespace

KUBECTL = shutil.which("kubectl")
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not on the PATH")

Kubectl = Callable[..., str]


@pytest.fixture
def kubectl(server: Server, ns: Namespace, tmp_path: Path) -> Kubectl:
    """Run kubectl in the test's namespace; its output, or a failure with what it said."""

    def run(*words: str, stdin: object = None, code: int = 0) -> str:
        command = [
            str(KUBECTL),
            f"--kubeconfig={server.kubeconfig}",
            f"--cache-dir={tmp_path}",
            f"--namespace={ns.name}",
            *words,
        ]
        text = None if stdin is None else stdin if isinstance(stdin, str) else yaml.safe_dump(stdin)
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, f"{' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


def test_apply_get_delete(kubectl: Kubectl) -> None:
    """apply creates, configures, leaves unchanged; get prints; delete removes."""
    body = config_map("one", {"a": "1"})
    assert kubectl("apply", "-f", "-", stdin=body) == "configmap/one created\n"
    assert kubectl("apply", "-f", "-", stdin=body) == "configmap/one unchanged\n"
    assert kubectl("apply", "-f", "-", stdin=config_map("one", {"a": "2"})) == "configmap/one configured\n"
    assert kubectl("get", "cm/one", "-o", "jsonpath={.data.a}") == "2"
    assert kubectl("get", "cm", "one", "-o", "name") == "configmap/one\n"
    assert kubectl("get", "cm", "one").splitlines()[0].split() == ["NAME", "DATA", "AGE"]
    assert kubectl("delete", "cm", "one").startswith('configmap "one" deleted')
    kubectl("get", "cm", "one", code=1)


def test_apply_removes_what_was_taken_out(kubectl: Kubectl) -> None:
    """Client-side apply: a field that was applied and is left out goes."""
    kubectl("apply", "-f", "-", stdin=config_map("one", {"a": "1", "b": "2"}))
    kubectl("apply", "-f", "-", stdin=config_map("one", {"a": "1"}))
    assert json.loads(kubectl("get", "cm", "one", "-o", "json"))["data"] == {"a": "1"}


def test_server_side_apply(kubectl: Kubectl) -> None:
    """--server-side, its conflicts, and --force-conflicts."""
    kubectl("apply", "--server-side", "-f", "-", stdin=config_map("one", {"a": "1"}))
    other = ("apply", "--server-side", "--field-manager=other", "-f", "-")
    kubectl(*other, stdin=config_map("one", {"a": "2"}), code=1)
    kubectl(*other, "--force-conflicts", stdin=config_map("one", {"a": "2"}))
    shown = kubectl("get", "cm", "one", "-o", "yaml", "--show-managed-fields")
    managers = [entry["manager"] for entry in yaml.safe_load(shown)["metadata"]["managedFields"]]
    assert managers == ["other"]


def test_diff(kubectl: Kubectl) -> None:
    """diff shows what an apply would change, with exit code 1, and nothing with 0."""
    kubectl("apply", "-f", "-", stdin=deployment("web", replicas=0))
    assert kubectl("diff", "-f", "-", stdin=deployment("web", replicas=0)) == ""
    shown = kubectl("diff", "-f", "-", stdin=deployment("web", replicas=2), code=1)
    assert "-  replicas: 0" in shown
    assert "+  replicas: 2" in shown
    shown = kubectl("diff", "--server-side", "-f", "-", stdin=config_map("new", {"a": "1"}), code=1)
    assert '+  a: "1"' in shown


def test_scale_and_patch(kubectl: Kubectl) -> None:
    """scale, the three patches, set image, label, annotate."""
    kubectl("apply", "-f", "-", stdin=deployment("web", replicas=0))
    kubectl("scale", "deploy/web", "--replicas=2")
    kubectl("patch", "deploy", "web", "-p", '{"spec":{"paused":true}}')
    kubectl("patch", "deploy", "web", "--type=merge", "-p", '{"metadata":{"annotations":{"a":"1"}}}')
    kubectl("patch", "deploy", "web", "--type=json", "-p", '[{"op":"replace","path":"/spec/replicas","value":0}]')
    kubectl("set", "image", "deploy/web", "main=new:2")
    kubectl("label", "deploy", "web", "x=1")
    kubectl("annotate", "deploy", "web", "b=2")
    got = json.loads(kubectl("get", "deploy", "web", "-o", "json"))
    assert (got["spec"]["replicas"], got["spec"]["paused"], got["metadata"]["labels"]) == (0, True, {"x": "1"})
    assert got["spec"]["template"]["spec"]["containers"][0]["image"] == "new:2"
    assert got["metadata"]["annotations"]["a"] == "1"
    assert got["metadata"]["annotations"]["b"] == "2"


def test_get_wide_and_selectors(kubectl: Kubectl) -> None:
    """-o wide shows the low-priority columns; -l and --field-selector select; -A adds the namespace."""
    kubectl("apply", "-f", "-", stdin=deployment("web", replicas=0))
    wide = kubectl("get", "deploy", "-o", "wide").splitlines()
    assert wide[0].split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]
    assert wide[1].split()[0] == "web"
    kubectl("create", "configmap", "one", "--from-literal=a=1")
    assert kubectl("get", "cm", "--field-selector=metadata.name=one", "-o", "name") == "configmap/one\n"
    assert "NAMESPACE" in kubectl("get", "cm", "-A").splitlines()[0]
    kubectl("get", "all")


def test_describe(kubectl: Kubectl) -> None:
    """describe tells an object's story."""
    kubectl("apply", "-f", "-", stdin=deployment("web", replicas=0))
    shown = kubectl("describe", "deploy", "web")
    assert "Selector:" in shown
    assert "StrategyType:" in shown
    kubectl("create", "configmap", "one", "--from-literal=a=1")
    assert "a:" in kubectl("describe", "cm", "one")


def test_explain(kubectl: Kubectl) -> None:
    """explain reads the OpenAPI documents, of built-in kinds and below."""
    assert "Deployment" in kubectl("explain", "deployment")
    assert "maxSurge" in kubectl("explain", "deployment.spec.strategy.rollingUpdate")
    assert "containers" in kubectl("explain", "pods.spec", "--recursive")


def test_wait(kubectl: Kubectl) -> None:
    """wait for a field, and for the end."""
    kubectl("create", "configmap", "one", "--from-literal=a=1")
    kubectl("wait", "cm/one", "--for=jsonpath={.data.a}=1", "--timeout=20s")
    kubectl("delete", "cm", "one", "--wait=true", "--timeout=20s")
    kubectl("wait", "cm/one", "--for=delete", "--timeout=20s")
    kubectl("wait", "cm/never", "--for=create", "--timeout=1s", code=1)


def test_auth(kubectl: Kubectl, ns: Namespace) -> None:
    """auth can-i, whoami; create token."""
    assert kubectl("auth", "can-i", "create", "deployments") == "yes\n"
    denied = ("auth", "can-i", "get", "secrets", f"--as=system:serviceaccount:{ns.name}:robot")
    assert kubectl(*denied, code=1) == "no\n"
    assert "Username" in kubectl("auth", "whoami")
    assert "Resources" in kubectl("auth", "can-i", "--list")
    kubectl("create", "serviceaccount", "robot")
    assert kubectl("create", "token", "robot").count(".") == 2


def test_api_resources_and_versions(kubectl: Kubectl) -> None:
    """api-resources, api-versions, version, cluster-info."""
    names = {line.split()[0] for line in kubectl("api-resources", "--no-headers").splitlines()}
    assert {"pods", "deployments", "jobs", "leases", "customresourcedefinitions"} <= names
    assert "deployments.apps" in kubectl("api-resources", "--api-group=apps", "-o", "name")
    assert "apps/v1" in kubectl("api-versions").splitlines()
    assert "Server Version" in kubectl("version")
    assert json.loads(kubectl("get", "--raw", "/version"))["gitVersion"]


def test_custom_kinds(kubectl: Kubectl, api: Api, unique: Callable[[], str]) -> None:
    """A CRD and its objects by apply, short name, explain, printer columns, edit by patch, wait for a condition."""
    group = f"{unique()}.example.com"
    spec = fields(size={"type": "integer", "description": "How big it is."})
    columns = [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]
    version = {"additionalPrinterColumns": columns, "subresources": {"status": {}}}
    short = unique().replace("-", "")[-8:]
    body = crd(group, schema(spec), version=version, names={"shortNames": [f"w{short}"]})
    kubectl("apply", "-f", "-", stdin=body)
    try:
        kubectl("wait", f"crd/widgets.{group}", "--for=condition=Established", "--timeout=20s")
        things = f"widgets.{group}"
        kubectl("apply", "-f", "-", stdin=custom(group, "one", {"size": 3}))
        assert kubectl("get", things).splitlines()[0].split() == ["NAME", "SIZE"]
        assert kubectl("get", things).splitlines()[1].split() == ["one", "3"]
        kubectl("patch", things, "one", "--type=merge", "-p", '{"spec":{"size":4}}')
        assert kubectl("get", things, "one", "-o", "jsonpath={.spec.size}") == "4"
        condition = '{"status":{"conditions":[{"type":"Ready","status":"True"}]}}'
        kubectl("patch", things, "one", "--subresource=status", "--type=merge", "-p", condition)
        kubectl("wait", f"{things}/one", "--for=condition=Ready", "--timeout=20s")
        kubectl("delete", things, "--all")
        eventually(lambda: f"apis/{group}/v1" in api.get("/openapi/v3")["paths"], "the document of a new kind")
        assert "How big it is." in kubectl("explain", "widgets.spec.size", f"--api-version={group}/v1")
    finally:
        kubectl("delete", "crd", f"widgets.{group}", "--wait=false")


def test_validation_is_shown(kubectl: Kubectl) -> None:
    """A field that does not exist is refused with its name."""
    body = deployment("web")
    body["spec"]["replica"] = 3
    kubectl("apply", "-f", "-", stdin=body, code=1)
    kubectl("apply", "--validate=ignore", "-f", "-", stdin=body)


def test_create_commands(kubectl: Kubectl, ns: Namespace) -> None:
    """The create and expose shorthands."""
    kubectl("create", "deployment", "web", "--image=nginx:1", "--replicas=0", "--port=80")
    kubectl("expose", "deployment", "web", "--port=80")
    kubectl("create", "secret", "generic", "s", "--from-literal=a=1")
    kubectl("create", "job", "j", "--image=x:1", "--", "true")
    kubectl("create", "role", "r", "--verb=get", "--resource=pods")
    kubectl("create", "rolebinding", "b", "--role=r", "--user=ann")
    assert kubectl("get", "svc", "web", "-o", "jsonpath={.spec.ports[0].port}") == "80"
    assert kubectl("get", "secret", "s", "-o", "jsonpath={.data.a}") == "MQ=="
    kubectl("rollout", "history", "deploy/web")
    kubectl("rollout", "pause", "deploy/web")
    kubectl("delete", "deploy,svc,secret,job,role,rolebinding", "--all")


def test_replace_and_dry_run(kubectl: Kubectl) -> None:
    """create, replace, and both dry runs."""
    assert "dry run" in kubectl("create", "-f", "-", "--dry-run=server", stdin=config_map("one", {"a": "1"}))
    kubectl("get", "cm", "one", code=1)
    kubectl("create", "-f", "-", stdin=config_map("one", {"a": "1"}))
    kubectl("replace", "-f", "-", stdin=config_map("one", {"a": "2"}))
    assert kubectl("get", "cm", "one", "-o", "jsonpath={.data.a}") == "2"


def test_watch(kubectl: Kubectl, server: Server, ns: Namespace, tmp_path: Path) -> None:
    """get --watch prints a line for each change."""
    kubectl("create", "configmap", "one", "--from-literal=a=1")
    words = ["get", "cm", "one", "--watch", "-o", 'jsonpath={.data.a}{"\\n"}']
    command = [
        str(KUBECTL),
        f"--kubeconfig={server.kubeconfig}",
        f"--cache-dir={tmp_path}",
        f"--namespace={ns.name}",
        *words,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline() == "1\n"
        kubectl("patch", "cm", "one", "-p", '{"data":{"a":"2"}}')
        assert watching.stdout.readline() == "2\n"
        watching.terminate()

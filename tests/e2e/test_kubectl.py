"""kubectl cannot tell it from a small cluster: every verb of the promise, on our kinds and on Kubernetes' own."""

import json
import re
import shutil
import subprocess

import pytest
from tests.e2e.machine import PROJECT, Machine


def _kubectl_minor() -> int:
    if shutil.which("kubectl") is None:
        return 0
    said = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True, check=False)
    return int(re.sub(r"\D", "", json.loads(said.stdout)["clientVersion"]["minor"])) if said.returncode == 0 else 0


pytestmark = pytest.mark.skipif(_kubectl_minor() < 28, reason="needs kubectl 1.28 or newer on PATH")

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: sleeper, labels: {app: sleeper}}
spec:
  replicas: 1
  selector: {matchLabels: {app: sleeper}}
  template:
    metadata: {labels: {app: sleeper}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: anything
        command: [python, -c, "import signal; print('awake', flush=True); signal.pause()"]
        resources: {requests: {cpu: 10m, memory: 16Mi}}
"""
JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: greeter}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: main, image: anything, command: [python, -c, "print('hello'); print('bye')"]}
"""
ENDPOINT = """
apiVersion: mizzen.dev/v1alpha1
kind: InferenceEndpoint
metadata: {name: waiting}
spec: {model: "nobody@production"}
"""


def test_a_deployment_goes_through_every_verb(machine: Machine) -> None:
    kubectl = machine.kubectl
    assert "created" in kubectl("apply", "-f", "-", text=DEPLOYMENT)
    kubectl("rollout", "status", "deployment/sleeper", "--timeout=60s")
    assert re.search(r"sleeper\s+1/1\s+1\s+1", kubectl("get", "deployment", "sleeper"))
    assert kubectl("diff", "-f", "-", text=DEPLOYMENT) == ""
    assert "replicas: 2" in kubectl("diff", "-f", "-", text=DEPLOYMENT.replace("replicas: 1", "replicas: 2"), code=1)
    kubectl("scale", "deployment/sleeper", "--replicas=2")
    kubectl("wait", "deployment/sleeper", "--for=jsonpath={.status.readyReplicas}=2", "--timeout=60s")
    described = kubectl("describe", "deployment", "sleeper")
    assert "ScalingReplicaSet" in described
    pod = kubectl("get", "pods", "-l", "app=sleeper", "-o", "name").split()[0]
    assert kubectl("logs", pod).strip() == "awake"
    assert "recorded and not used" in kubectl("describe", pod)
    kubectl("patch", "deployment", "sleeper", "-p", '{"metadata":{"labels":{"a":"strategic"}}}')
    kubectl("patch", "deployment", "sleeper", "--type=merge", "-p", '{"metadata":{"labels":{"b":"merge"}}}')
    kubectl(
        "patch",
        "deployment",
        "sleeper",
        "--type=json",
        "-p",
        '[{"op":"add","path":"/metadata/labels/c","value":"json"}]',
    )
    labels = json.loads(kubectl("get", "deployment", "sleeper", "-o", "json"))["metadata"]["labels"]
    assert (labels["a"], labels["b"], labels["c"]) == ("strategic", "merge", "json")
    assert "replicas" in kubectl("explain", "deployment.spec")
    kubectl("delete", "deployment", "sleeper", "--cascade=foreground", "--timeout=60s")
    assert kubectl("get", "pods", "-l", "app=sleeper", "-o", "name") == ""


def test_a_job_runs_and_its_log_is_followed(machine: Machine) -> None:
    kubectl = machine.kubectl
    kubectl("apply", "--server-side", "-f", "-", text=JOB)
    kubectl("wait", "job/greeter", "--for=condition=Complete", "--timeout=60s")
    assert kubectl("logs", "-f", "job/greeter").split() == ["hello", "bye"]
    assert re.search(r"greeter\s+Complete\s+1/1", kubectl("get", "job", "greeter"))
    assert "Completed" in kubectl("get", "pods", "-l", "job-name=greeter")
    assert "serverside-applied" in kubectl("apply", "--server-side", "-f", "-", text=JOB)
    kubectl("delete", "job", "greeter", "--timeout=60s")


def test_our_kinds_go_through_every_verb(machine: Machine) -> None:
    kubectl = machine.kubectl
    resources = kubectl("api-resources", "--api-group=mizzen.dev")
    assert re.search(r"inferenceendpoints\s+ie\s+mizzen.dev/v1alpha1\s+true\s+InferenceEndpoint", resources)
    assert "created" in kubectl("apply", "-f", "-", text=ENDPOINT)
    kubectl("wait", "ie/waiting", "--for=condition=ModelResolved=false", "--timeout=30s")
    assert "ModelMissing" in kubectl("get", "ie")
    assert "ModelMissing" in kubectl("describe", "ie", "waiting")
    kubectl("scale", "ie/waiting", "--replicas=3")
    assert kubectl("get", "ie", "waiting", "-o", "jsonpath={.spec.scaling.replicas}") == "3"
    kubectl("patch", "ie", "waiting", "--type=merge", "-p", '{"spec":{"access":"anonymous"}}')
    kubectl(
        "patch", "ie", "waiting", "--type=json", "-p", '[{"op":"replace","path":"/spec/scaling/replicas","value":2}]'
    )
    refused = kubectl("patch", "ie", "waiting", "-p", "{}", "--type=strategic", code=1)
    assert "strategic-merge-patch+json is not supported" in refused, "as for any custom resource"
    assert "spec.access" in kubectl("patch", "ie", "waiting", "--type=merge", "-p", '{"spec":{"access":"all"}}', code=1)
    explained = kubectl("explain", "ie.spec.scaling")
    assert "How many workers." in explained
    assert "replicas" in explained
    wrong = ENDPOINT.replace("model:", "modle:")
    assert "modle" in kubectl("apply", "-f", "-", text=wrong, code=1)
    assert kubectl("auth", "can-i", "delete", "ie").strip() == "yes"
    assert kubectl("auth", "can-i", "get", "ie", "--as=nobody", code=1).strip() == "no"
    assert "deleted" in kubectl("delete", "ie", "waiting")


def test_watching_shows_changes_as_they_happen(machine: Machine) -> None:
    """`kubectl get -w` prints a row for the object and one for each change."""
    machine.kubectl("create", "configmap", "watched", "--from-literal=a=1")
    command = ["kubectl", "get", "configmap", "watched", "-w", "-o", "jsonpath={.data.a}{'\\n'}"]
    with subprocess.Popen(command, env=machine.environment, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().strip() == "1"
        machine.kubectl("patch", "configmap", "watched", "-p", '{"data":{"a":"2"}}')
        assert watching.stdout.readline().strip() == "2"
        watching.terminate()
    machine.kubectl("delete", "configmap", "watched")


def test_kubectl_applies_the_project_and_its_wrong_copy_is_refused(serving: Machine) -> None:
    """What `mizzen apply` made, kubectl can read, apply over and refuse: one API."""
    text = (PROJECT / "resources.yaml").read_text()
    parts = [part.strip().removeprefix("apiVersion: mizzen.dev/v1alpha1").strip() for part in text.split("---")]
    one = "---\n".join(f"apiVersion: mizzen.dev/v1alpha1\n{part}\n" for part in parts)
    serving.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text=one)
    assert serving.kubectl("get", "dset", "things", "-o", "jsonpath={.spec.code}").startswith("sha256:"), (
        "still bundled"
    )
    assert "thing:1" in serving.kubectl("get", "ie", "thing")

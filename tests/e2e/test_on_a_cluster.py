"""The manifests of `deploy/cluster` as they are, with their ServiceAccounts and nothing more: controllers and gateway as
Pods of a node, beside a control plane that knows nothing of Mizzen before.

With `MIZZEN_E2E_KUBECONFIG` that control plane is the one it names. Changed are only addresses, how many gateways there
are, and the store.
"""

import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.conformance.server import embedded, free_port, part
from tests.e2e.machine import MIZZEN, OTHER_CONTROL_PLANE
from tests.serving.builders import doubling_model
from tests.serving.stack import eventually

from mizzen.kinds.names import ANNOTATION_PORTS

MANIFESTS = Path(__file__).parents[2] / "deploy" / "cluster"
ENDPOINT = """
apiVersion: mizzen.dev/v1alpha1
kind: InferenceEndpoint
metadata: {name: doubled}
spec: {model: "doubled:1", logging: {}, worker: {resources: {cpu: 100m, memory: 128Mi}}}
"""
PATIENCE = "120s"


class Cluster:
    """A control plane with a node, and the manifests' text fitted to this machine."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self.kubeconfig, self.folder = kubeconfig, folder

    def run(self, *command: str, text: str | None = None) -> str:
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "MIZZEN_HOME": str(self.folder / "client")}
        done = subprocess.run(
            command, input=text, env=environment, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}\n{self.logs()}"
        return done.stdout

    def kubectl(self, *words: str, text: str | None = None) -> str:
        return self.run("kubectl", *words, text=text)

    def mizzen(self, *words: str, text: str | None = None) -> str:
        return self.run(MIZZEN, *words, text=text)

    def logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:])
            for path in self.folder.rglob("*.log")
        )

    def gateway_url(self) -> str:
        """Where the node put it: on a cluster its Service says that."""
        named = "app.kubernetes.io/name=mizzen-gateway"
        (pod,) = json.loads(self.kubectl("get", "pods", "-n", "mizzen-system", "-l", named, "-o", "json"))["items"]
        return f"http://127.0.0.1:{json.loads(pod['metadata']['annotations'][ANNOTATION_PORTS])['http']}"

    def manifests(self) -> str:
        """All of `kubectl kustomize deploy/cluster`, fitted."""
        text = self.run("kubectl", "kustomize", str(MANIFESTS))
        for found, here in (
            ("0.0.0.0", "127.0.0.1"), ("mizzen-controllers.mizzen-system.svc", "127.0.0.1"),
            ("7083", str(free_port())), ("s3://mizzen/store", f"file://{self.folder}/store"),
            ("replicas: 2", "replicas: 1"),
        ):  # fmt: skip
            assert found in text, f"{found} is in the manifests"
            text = text.replace(found, here)
        served = self.kubectl("api-versions").split()
        return "---\n".join(one for one in text.split("---\n") if one.split()[1] in served)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="mz-"))
    try:
        with ExitStack() as stack:
            if OTHER_CONTROL_PLANE:
                kubeconfig = Path(OTHER_CONTROL_PLANE)
            else:
                kubeconfig = stack.enter_context(embedded(folder))
                stack.enter_context(part("mizzen.local.cluster", folder / "cluster.log", kubeconfig=kubeconfig))
            made = Cluster(kubeconfig, folder)
            stack.enter_context(part("mizzen.local.node", folder / "node.log", kubeconfig=kubeconfig, home=folder))
            stack.callback(_clear, made)
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _clear(cluster: Cluster) -> None:
    """Ends its Pods while there is still a node to end them."""
    if "mizzen.dev/v1alpha1" in cluster.kubectl("api-versions"):
        cluster.kubectl("delete", "ie", "--all", "--wait=false")
    cluster.kubectl("delete", "deployments", "--all", "-n", "mizzen-system", "--wait=false")
    cluster.kubectl("delete", "deployments", "--all", "--wait=false")
    for namespace in ("default", "mizzen-system"):
        cluster.kubectl("wait", "pods", "--all", "-n", namespace, "--for=delete", "--timeout=90s")


@pytest.mark.slow
def test_controllers_and_gateway_run_with_the_rights_their_manifests_give_them(cluster):
    cluster.kubectl("apply", "-f", "-", text=cluster.manifests())
    cluster.kubectl(
        "create", "secret", "generic", "mizzen-reports", "-n", "mizzen-system", "--from-literal=token=t0k3n"
    )
    for name in ("mizzen-controllers", "mizzen-gateway"):
        cluster.kubectl("rollout", "status", f"deployment/{name}", "-n", "mizzen-system", f"--timeout={PATIENCE}")
    url = cluster.gateway_url()
    settings = json.dumps({"data": {"gatewayUrl": url}})
    cluster.kubectl("patch", "configmap", "mizzen", "-n", "mizzen-system", "--type=merge", "-p", settings)
    (cluster.folder / "doubled.onnx").write_bytes(doubling_model())
    eventually(lambda: "inferenceendpoints" in cluster.kubectl("get", "crds", "-o", "name"), "our kinds are served")
    cluster.mizzen("models", "register", "doubled", str(cluster.folder / "doubled.onnx"))
    cluster.kubectl("apply", "-f", "-", text=ENDPOINT)
    cluster.kubectl("wait", "ie/doubled", "--for=condition=Ready", f"--timeout={PATIENCE}")
    answer = json.loads(cluster.mizzen("predict", "doubled", '{"inputs": [{"name": "x", "datatype": "FP32", '
                                       '"shape": [1, 2], "data": [1.5, 2]}]}', "-o", "json"))  # fmt: skip
    assert answer == {"y": [[3.0, 4.0]]}
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as page:
        assert 'requests_total{namespace="default",endpoint="doubled",outcome="ok"} 1' in page.read().decode()
    cluster.kubectl("wait", "ie/doubled", "--for=jsonpath={.status.logging.committed}=1", f"--timeout={PATIENCE}")
    said = cluster.kubectl("logs", "-n", "mizzen-system", "deployment/mizzen-controllers")
    assert "orbidden" not in said, said
    gateway = cluster.kubectl("logs", "-n", "mizzen-system", "deployment/mizzen-gateway", "--all-containers")
    assert "orbidden" not in gateway, gateway


def test_a_gateway_may_not_write_what_it_reads():
    """The roles are small where it counts: no wildcard of verbs, no Secret is written, and all our kinds are covered."""
    text = (MANIFESTS / "gateway.yaml").read_text()
    assert "verbs: [list, watch]" in text
    assert not any(verb in text for verb in ("update", "create", "delete", '"*"'))
    controllers = (MANIFESTS / "controllers.yaml").read_text()
    assert 'verbs: ["*"]' not in controllers

"""The node to a real API server: Pods from bind to end, as their owner sees them."""

import asyncio
import json
import stat
from pathlib import Path

import psutil
import pytest
from tests.node.cluster import CONFIG_MAP, SECRET, Cluster, is_ready, main_of, terminated, waiting
from tests.node.programs import HOG, UNTIL_CHANGED

from mizzen.local.node import machine
from mizzen.local.node.machine import Enforcement
from mizzen.local.node.registration import LEASE_NAMESPACE
from mizzen.local.node.resources import LEASE, NODE

SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if os.path.exists("broken") else 200); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["MIZZEN_PORT_HTTP"])), Handler).serve_forever()
"""
PORTS = [{"name": "http", "containerPort": 8080}]
SLEEP = ["sleep", "1000"]


def python(code: str, **fields) -> dict:
    return {"command": ["python", "-c"], "args": [code], **fields}


# -- the Node


async def test_the_node_registers_and_beats(cluster: Cluster) -> None:
    async with cluster.node() as node:
        found = await cluster.client.get(NODE, cluster.node_name)
        labels = found["metadata"]["labels"]
        assert labels["kubernetes.io/hostname"] == cluster.node_name
        assert labels["node.mizzen.dev/process"] == "true"
        assert found["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] == node.port
        assert int(found["status"]["capacity"]["pods"]) == 110
        conditions = {condition["type"]: condition for condition in found["status"]["conditions"]}
        assert conditions["Ready"]["status"] == "True"
        assert "node.mizzen.dev/LimitsEnforced" in conditions
        lease = await cluster.client.get(LEASE, cluster.node_name, LEASE_NAMESPACE)
        assert lease["spec"]["holderIdentity"] == cluster.node_name
        assert node.statistics().heartbeats == 1


# -- from bind to end


async def test_a_pod_finds_what_it_was_promised(cluster: Cluster) -> None:
    """Environment, volumes, ports, folders: everything of docs/architecture.md that a Pod may count on."""
    meta = {"namespace": cluster.namespace}
    await cluster.client.create(CONFIG_MAP(metadata={**meta, "name": "settings"}, data={"a.txt": "from map", "K": "v"}))
    await cluster.client.create(SECRET(metadata={**meta, "name": "keys"}, data={"password": "c2VjcmV0"}))
    code = """
import json, os, shutil, socket, sys, tempfile
root = os.environ["MIZZEN_ROOTFS"]
with socket.socket(socket.AF_UNIX) as unix, socket.socket() as tcp:
    unix.bind(os.environ["MIZZEN_RUN_DIR"] + "/worker.sock")
    tcp.bind(("127.0.0.1", int(os.environ["MIZZEN_PORT_HTTP"])))
tempfile.mkdtemp()
open(root + os.environ["MESSAGE"], "w").write("done and dusted")
print(json.dumps({
    "env": dict(os.environ), "cwd": os.getcwd(), "python": shutil.which("python"), "prefix": sys.prefix,
    "map": open(root + "/etc/settings/a.txt").read(), "secret": open(root + "/keys/password").read(),
    "mode": os.stat(root + "/keys/password").st_mode & 0o777, "init": open(root + "/data/init").read(),
    "downward": open(root + "/info/labels").read(),
}))
"""
    main = python(
        code,
        ports=PORTS,
        workingDir="/data",
        terminationMessagePath="/tmp/last-words",
        env=[
            {"name": "MESSAGE", "value": "/tmp/last-words"},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "password"}}},
            {"name": "WHERE", "value": "$(PASSWORD)@$(KUBERNETES_SERVICE_HOST)"},
        ],
        envFrom=[{"prefix": "S_", "configMapRef": {"name": "settings"}}],
        volumeMounts=[
            {"name": "data", "mountPath": "/data"}, {"name": "settings", "mountPath": "/etc/settings"},
            {"name": "keys", "mountPath": "/keys"}, {"name": "info", "mountPath": "/info"},
        ],
    )  # fmt: skip
    init = {"name": "init", "image": "busybox", "command": ["sh", "-c", "printf made > $MIZZEN_ROOTFS/d/init"],
            "volumeMounts": [{"name": "data", "mountPath": "/d"}]}  # fmt: skip
    volumes = [
        {"name": "data", "emptyDir": {}}, {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 0o400}},
        {"name": "info", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]  # fmt: skip
    async with cluster.node() as node:
        await cluster.create(
            main, initContainers=[init], volumes=volumes, restartPolicy="Never", meta={"labels": {"app": "x"}}
        )
        pod = await cluster.until_phase("Succeeded")
        assert terminated(pod)["message"] == "done and dusted"
        assert main_of(pod)["restartCount"] == 0
        found = json.loads(await log_of(node))
    env = found["env"]
    assert found["cwd"].endswith("/volumes/data")
    assert (found["map"], found["secret"], found["mode"], found["init"]) == ("from map", "secret", 0o400, "made")
    assert found["downward"] == 'app="x"'
    assert env["S_K"] == "v"
    assert env["WHERE"] == f"secret@{env['KUBERNETES_SERVICE_HOST']}"
    assert cluster.client.connection.server.endswith(
        f"{env['KUBERNETES_SERVICE_HOST']}:{env['KUBERNETES_SERVICE_PORT']}"
    )
    assert found["python"] == str(Path(env["PATH"].split(":")[0]) / "python")
    assert len(env["MIZZEN_RUN_DIR"]) < 70
    assert len(env["TMPDIR"] + "/pymp-12345678/listener-12345678") < 104
    annotations = pod["metadata"]["annotations"]
    assert json.loads(annotations["node.mizzen.dev/ports"]) == {"http": int(env["MIZZEN_PORT_HTTP"])}
    assert annotations["node.mizzen.dev/run-dir"] == env["MIZZEN_RUN_DIR"]
    assert not {"KUBECONFIG", "SSH_AUTH_SOCK", "MIZZEN_TEST_KUBECONFIG"} & env.keys()


async def log_of(node, container: str = "main") -> str:
    """What a container of the only Pod wrote, without the API server between."""
    from tests.node.running import read_log

    (worker,) = node.workers()
    attempt = worker.attempt(container)
    assert attempt is not None
    return (await read_log(attempt)).decode()


async def test_a_service_account_token_is_projected(cluster: Cluster) -> None:
    """Issued by the API server for this Pod, and known to it."""
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}}
    root = {"configMap": {"name": "kube-root-ca.crt", "optional": True}}
    code = "import os; print(open(os.environ['MIZZEN_ROOTFS'] + '/token/token').read())"
    async with cluster.node() as node:
        await cluster.create(
            python(code, volumeMounts=[{"name": "t", "mountPath": "/token"}]),
            volumes=[{"name": "t", "projected": {"sources": [token, root]}}],
            restartPolicy="Never",
        )
        await cluster.until_phase("Succeeded")
        text = (await log_of(node)).strip()
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": text}}
    answer = await cluster.client.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body=review)
    assert answer["status"]["user"]["username"] == f"system:serviceaccount:{cluster.namespace}:default"


ENDS = {
    "completes": ("pass", "Succeeded", "Completed", 0),
    "fails": ("raise SystemExit(3)", "Failed", "Error", 3),
    "is killed": ("import os; os.kill(os.getpid(), 9)", "Failed", "Error", 137),
}


@pytest.mark.parametrize("how", ENDS)
async def test_how_a_pod_that_never_restarts_ends(cluster: Cluster, how: str) -> None:
    code, phase, reason, exit_code = ENDS[how]
    async with cluster.node():
        await cluster.create(python(code), restartPolicy="Never")
        pod = await cluster.until_phase(phase)
        assert (terminated(pod)["reason"], terminated(pod)["exitCode"]) == (reason, exit_code)
        await cluster.delete()


async def test_a_container_over_its_memory_is_oom_killed(cluster: Cluster) -> None:
    async with cluster.node():
        await cluster.create(python(HOG, resources={"limits": {"memory": "64Mi"}}), restartPolicy="Never")
        pod = await cluster.until_phase("Failed")
        assert (terminated(pod)["reason"], terminated(pod)["exitCode"]) == ("OOMKilled", 137)
        assert "memory" in await cluster.until_event("OOMKilling")


async def test_without_control_groups_a_watchdog_holds_memory(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the Node and the Pod say what is not held."""
    monkeypatch.setattr(machine, "enforcement", lambda home: Enforcement(None, root=False))
    async with cluster.node():
        node = await cluster.client.get(NODE, cluster.node_name)
        held = next(one for one in node["status"]["conditions"] if one["type"] == "node.mizzen.dev/LimitsEnforced")
        assert (held["status"], "cpu limits are not enforced" in held["message"]) == ("False", True)
        await cluster.create(python(HOG, resources={"limits": {"memory": "64Mi", "cpu": "1"}}), restartPolicy="Never")
        pod = await cluster.until_phase("Failed")
        assert (terminated(pod)["reason"], terminated(pod)["exitCode"]) == ("OOMKilled", 137)
        assert await cluster.until_event("Unsupported", saying="resources.limits.cpu is not enforced here")


async def test_a_command_that_is_not_there_is_a_start_error(cluster: Cluster) -> None:
    async with cluster.node():
        await cluster.create({"command": ["no-such-program"]}, restartPolicy="Never")
        pod = await cluster.until_phase("Failed")
        assert (terminated(pod)["reason"], terminated(pod)["exitCode"]) == ("StartError", 128)
        assert "not found in $PATH" in terminated(pod)["message"]


async def test_a_crashing_container_backs_off(cluster: Cluster) -> None:
    """The first restart is at once, then it waits and says so; the last end stays visible, and so does its log."""
    async with cluster.node():
        message = {"terminationMessagePolicy": "FallbackToLogsOnError"}
        await cluster.create(python("print('why it failed'); raise SystemExit(4)", **message))
        pod = await cluster.until(lambda pod: waiting(pod) == "CrashLoopBackOff")
        last = main_of(pod)["lastState"]["terminated"]
        assert (main_of(pod)["restartCount"], last["exitCode"], last["message"]) == (1, 4, "why it failed\n")
        assert "Back-off restarting" in await cluster.until_event("BackOff")
        await cluster.delete()


async def test_what_is_missing_is_waited_for_and_used_at_once(cluster: Cluster) -> None:
    """A Secret and a volume's ConfigMap that come later: the Pod says what it waits for, and starts when it is there."""
    secret = {"name": "X", "valueFrom": {"secretKeyRef": {"name": "late", "key": "k"}}}
    async with cluster.node() as node:
        await cluster.create(
            python("import os; print(os.environ['X'])", env=[secret]), name="env", restartPolicy="Never"
        )
        pod = await cluster.until(lambda pod: waiting(pod) == "CreateContainerConfigError", "env")
        assert main_of(pod)["state"]["waiting"]["message"] == "secret 'late' not found"
        assert pod["status"]["phase"] == "Pending"
        await cluster.create(python("pass"), name="volume", restartPolicy="Never",
                             volumes=[{"name": "v", "configMap": {"name": "later"}}])  # fmt: skip
        assert "configmap 'later' not found" in await cluster.until_event("FailedMount", "volume")
        meta = {"namespace": cluster.namespace}
        await cluster.client.create(SECRET(metadata={**meta, "name": "late"}, data={"k": "eA=="}))
        await cluster.client.create(CONFIG_MAP(metadata={**meta, "name": "later"}, data={"a": "b"}))
        found = await cluster.until_phase("Succeeded", "env")
        assert main_of(found)["restartCount"] == 0
        await cluster.until_phase("Succeeded", "volume")
        await cluster.delete("env")
        await cluster.delete("volume")
        assert len(node._host.sources) == 0


async def test_a_changed_config_map_reaches_a_running_pod(cluster: Cluster) -> None:
    meta = {"name": "settings", "namespace": cluster.namespace}
    await cluster.client.create(CONFIG_MAP(metadata=meta, data={"a": "1"}))
    async with cluster.node():
        await cluster.create(
            python(UNTIL_CHANGED, volumeMounts=[{"name": "s", "mountPath": "/s"}]),
            volumes=[{"name": "s", "configMap": {"name": "settings"}}],
            restartPolicy="Never",
        )
        await cluster.until_phase("Running")
        await cluster.client.patch(CONFIG_MAP, "settings", {"data": {"a": "2"}}, namespace=cluster.namespace)
        await cluster.until_phase("Succeeded")


async def test_probes_make_a_pod_ready_unready_and_restarted(cluster: Cluster) -> None:
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1}
    main = python(SERVER, ports=PORTS, readinessProbe=probe, livenessProbe={**probe, "httpGet": {"port": 8080},
                  "failureThreshold": 2, "initialDelaySeconds": 1})  # fmt: skip
    async with cluster.node():
        await cluster.create(main)
        pod = await cluster.until_ready()
        pid = int((await cluster.until_event("Started")).rsplit(" ", 1)[1])
        Path(psutil.Process(pid).cwd(), "broken").touch()
        await cluster.until(lambda pod: not is_ready(pod))
        assert "statuscode: 500" in await cluster.until_event("Unhealthy")
        pod = await cluster.until(lambda pod: main_of(pod).get("restartCount") == 1 and is_ready(pod))
        assert main_of(pod)["lastState"]["terminated"]["exitCode"] == 143
        assert "failed liveness probe" in await cluster.until_event("Killing")


async def test_exec_probes_and_hooks_run_inside_the_container(cluster: Cluster) -> None:
    """With its environment and its folder: what postStart makes, the probe finds, and preStop sees the command alive."""
    lifecycle = {
        "postStart": {"exec": {"command": ["sh", "-c", "echo $ME > started"]}},
        "preStop": {"exec": {"command": ["sh", "-c", "cat started > $MIZZEN_ROOTFS/out/said"]}},
    }
    probe = {"exec": {"command": ["grep", "-q", "me", "started"]}, "periodSeconds": 1}
    host = cluster.home / "out"
    host.mkdir()
    async with cluster.node():
        await cluster.create(
            {"command": SLEEP, "env": [{"name": "ME", "value": "me"}], "lifecycle": lifecycle, "readinessProbe": probe,
             "volumeMounts": [{"name": "out", "mountPath": "/out"}]},
            volumes=[{"name": "out", "hostPath": {"path": str(host)}}], terminationGracePeriodSeconds=10,
        )  # fmt: skip
        await cluster.until_ready()
        await cluster.delete()
        assert (host / "said").read_text() == "me\n"


async def test_what_is_not_given_is_said(cluster: Cluster) -> None:
    async with cluster.node():
        await cluster.create(
            {"command": SLEEP, "securityContext": {"runAsUser": 1234}, "image": "example.org/some/image:1"},
            volumes=[{"name": "c", "emptyDir": {"sizeLimit": "1Mi"}}],
        )
        pod = await cluster.until_phase("Running")
        assert main_of(pod)["image"] == "example.org/some/image:1"
        assert "image-not-used" in main_of(pod)["imageID"]
        assert "example.org/some/image:1 is recorded and not used" in await cluster.until_event("ImageNotUsed")
        assert await cluster.until_event("Unsupported", saying="the process runs as the node's user")
        assert await cluster.until_event("Unsupported", saying="sizeLimit is not enforced")


async def test_a_pod_past_its_deadline_fails(cluster: Cluster) -> None:
    async with cluster.node():
        await cluster.create({"command": SLEEP}, activeDeadlineSeconds=1, restartPolicy="Never")
        pod = await cluster.until_phase("Failed")
        assert pod["status"]["reason"] == "DeadlineExceeded"
        assert terminated(pod)["exitCode"] == 143


async def test_a_deleted_pod_leaves_nothing(cluster: Cluster) -> None:
    """No process, no folder, no port, no control group."""
    async with cluster.node() as node:
        await cluster.create({"command": SLEEP, "ports": PORTS}, {"name": "other", "command": SLEEP})
        pod = await cluster.until_phase("Running")
        (worker,) = node.workers()
        pids = [running.pid for name in ("main", "other") if (running := worker.attempt(name).running())]
        run = Path(pod["metadata"]["annotations"]["node.mizzen.dev/run-dir"])
        assert stat.S_IMODE(run.stat().st_mode) == 0o700
        await cluster.delete()
        while list(node.workers()):
            await asyncio.sleep(0)
        assert [pid for pid in pids if psutil.pid_exists(pid)] == []
        assert not worker.folder.root.exists()
        assert not run.exists()
        assert node._host.ports == {}
        assert node._host.groups is None or node._host.groups.names() == set()

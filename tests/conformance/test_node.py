"""With a node: Pods run, tell how it went, and are asked for what they wrote.

The Pods run `python` of the image `python:3-slim`; on a node that runs processes, the node's own. Such a node says in
`MIZZEN_ROOTFS` where a container's absolute paths are.
"""

import threading
from collections.abc import Callable

import pytest

from .client import Api, Json, Resource, eventually
from .objects import config_map, container, deployment, job, pod, secret, service
from .surroundings import Namespace, has_condition

pytestmark = [pytest.mark.needs_node, pytest.mark.usefixtures("node_ready")]

ROOT = "import os; root = os.environ.get('MIZZEN_ROOTFS', '')\n"


def python(script: str, name: str = "main", **fields: object) -> Json:
    """A container that runs a script."""
    return container(name, image="python:3-slim", command=["python", "-uc", script], **fields)


def once(script: str, **spec: object) -> Json:
    """A Pod `one` that runs a script once."""
    return pod("one", **{"restartPolicy": "Never", "containers": [python(script)]} | spec)


def is_over(one: Json) -> bool:
    return one["status"]["phase"] in {"Succeeded", "Failed"}


def has(condition: str, status: str = "True") -> Callable[[Json], bool]:
    return lambda one: has_condition(one, condition, status)


def log(pods: Resource, name: str = "one", **query: object) -> str:
    response = pods.api.request("GET", pods.at(name, "log"), **query)
    assert response.status_code == 200, response.text
    return response.text


def run(pods: Resource, body: Json) -> str:
    """Run a Pod to its good end and return what it wrote."""
    pods.create(body)
    done = pods.wait("one", is_over)
    assert done["status"]["phase"] == "Succeeded", (done["status"], log(pods))
    return log(pods)


def state_of(one: Json, index: int = 0) -> Json:
    found: Json = one["status"]["containerStatuses"][index]
    return found


def test_nodes_are_ready_and_renew_their_lease(api: Api) -> None:
    """A node says it is ready, what it has, and renews its Lease."""
    ready = [one for one in api.resource("nodes").list()["items"] if has("Ready")(one)]
    assert ready
    name = ready[0]["metadata"]["name"]
    assert {"cpu", "memory", "pods"} <= ready[0]["status"]["allocatable"].keys()
    assert ready[0]["status"]["nodeInfo"]["kubeletVersion"]
    leases = api.resource("coordination.k8s.io/v1/leases", "kube-node-lease")
    assert leases.wait(name, lambda lease: "renewTime" in lease["spec"])["spec"]["holderIdentity"] == name


def test_a_pod_succeeds(pods: Resource) -> None:
    """Exit code 0: Succeeded, Completed, with times; its output is its log."""
    assert run(pods, once("print('hello')")) == "hello\n"
    done = pods.get("one")
    terminated = state_of(done)["state"]["terminated"]
    assert (terminated["exitCode"], terminated["reason"]) == (0, "Completed")
    assert terminated["startedAt"] <= terminated["finishedAt"]
    assert done["status"]["startTime"]
    assert done["spec"]["nodeName"]


def test_a_pod_fails(pods: Resource) -> None:
    """Another exit code: Failed, Error, with the code and what it left at the termination message path."""
    script = f"{ROOT}open(root + '/dev/termination-log', 'w').write('why it failed'); raise SystemExit(3)"
    pods.create(once(script))
    done = pods.wait("one", is_over)
    terminated = state_of(done)["state"]["terminated"]
    assert done["status"]["phase"] == "Failed"
    assert (terminated["exitCode"], terminated["reason"]) == (3, "Error")
    assert terminated["message"] == "why it failed"


def test_a_pod_is_restarted(pods: Resource) -> None:
    """restartPolicy OnFailure: what failed runs again, the count says so, the log before is `previous`."""
    script = (
        f"{ROOT}import pathlib; seen = pathlib.Path(root + '/scratch/seen')\n"
        "again = seen.exists(); seen.touch(); print('again' if again else 'first'); raise SystemExit(0 if again else 1)"
    )
    mounts = [{"name": "scratch", "mountPath": "/scratch"}]
    body = once(
        script,
        restartPolicy="OnFailure",
        volumes=[{"name": "scratch", "emptyDir": {}}],
        containers=[python(script, volumeMounts=mounts)],
    )
    assert run(pods, body) == "again\n"
    assert state_of(pods.get("one"))["restartCount"] == 1
    assert log(pods, previous="true") == "first\n"


def test_logs_by_parts(pods: Resource) -> None:
    """tailLines, limitBytes, timestamps; several containers are asked for by name."""
    containers = [python("print('1\\n2\\n3')", "a"), python("print('b')", "b")]
    pods.create(once("", containers=containers))
    pods.wait("one", is_over)
    assert log(pods, container="a", tailLines=2) == "2\n3\n"
    assert log(pods, container="a", limitBytes=3) == "1\n2"
    assert log(pods, container="b") == "b\n"
    stamp, _, text = log(pods, container="b", timestamps="true").partition(" ")
    assert stamp[:2] == "20"
    assert text == "b\n"


def test_a_log_is_followed(pods: Resource) -> None:
    """follow streams what is written as it is written, and ends with the container."""
    script = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye'), sys.exit(0)))\n"
        "print('up'); signal.pause()"
    )
    pods.create(once(script, terminationGracePeriodSeconds=20))
    pods.wait("one", lambda one: one["status"]["phase"] == "Running")
    with pods.api.lines(pods.at("one", "log"), follow="true") as lines:
        assert next(lines) == "up"
        pods.delete("one")
        assert list(lines) == ["bye"]
    pods.wait_gone("one")


def test_the_environment(ns: Namespace, pods: Resource) -> None:
    """Values, references to others of them, ConfigMaps, Secrets, fields of the Pod; the API's address."""
    ns("configmaps").create(config_map("settings", {"color": "red", "SIZE": "3"}))
    ns("secrets").create(secret("hidden", stringData={"word": "please"}))
    env = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)2 $$(A) $(NONE)"},
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
        {"name": "D", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "word"}}},
        {"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "G", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "x", "optional": True}}},
    ]
    names = [*"ABCDEFG", "SIZE", "X_SIZE"]
    script = f"import os; print([os.environ.get(name) for name in {names}], 'KUBERNETES_SERVICE_HOST' in os.environ)"
    from_ = [{"configMapRef": {"name": "settings"}}, {"configMapRef": {"name": "settings"}, "prefix": "X_"}]
    shown = run(pods, once("", containers=[python(script, env=env, envFrom=from_)]))
    expected = ["1", "12 $(A) $(NONE)", "red", "please", "one", ns.name, None, "3", "3"]
    assert shown == f"{expected} True\n"


def test_volumes(ns: Namespace, pods: Resource) -> None:
    """ConfigMap, Secret, downward API and the token's volume hold their files; an emptyDir is shared."""
    ns("configmaps").create(config_map("settings", {"color": "red"}))
    ns("secrets").create(secret("hidden", stringData={"word": "please"}))
    volumes = [
        {"name": "c", "configMap": {"name": "settings", "items": [{"key": "color", "path": "deep/colour"}]}},
        {"name": "s", "secret": {"secretName": "hidden"}},
        {"name": "d", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"name": "e", "emptyDir": {}},
    ]
    mounts = [{"name": name, "mountPath": f"/in/{name}"} for name in "csde"]
    first = python(f"{ROOT}open(root + '/in/e/left', 'w').write('here')", "first", volumeMounts=mounts)
    paths = ["/in/c/deep/colour", "/in/s/word", "/in/d/name", "/in/e/left"]
    paths.append("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    main = python(f"{ROOT}print([open(root + path).read() for path in {paths}])", volumeMounts=mounts)
    shown = run(pods, once("", initContainers=[first], containers=[main], volumes=volumes))
    assert shown == f"{['red', 'please', 'one', 'here', ns.name]}\n"


def test_a_pod_speaks_to_the_server(ns: Namespace, pods: Resource) -> None:
    """With the mounted token and CA, at the address in its environment, a Pod is its service account."""
    script = (
        f"{ROOT}import json, ssl, urllib.request\n"
        "place = root + '/var/run/secrets/kubernetes.io/serviceaccount/'\n"
        "host, port = os.environ['KUBERNETES_SERVICE_HOST'], os.environ['KUBERNETES_SERVICE_PORT']\n"
        "url = f'https://{host}:{port}/apis/authentication.k8s.io/v1/selfsubjectreviews'\n"
        "headers = {'Authorization': 'Bearer ' + open(place + 'token').read(), 'Content-Type': 'application/json'}\n"
        "body = json.dumps({'apiVersion': 'authentication.k8s.io/v1', 'kind': 'SelfSubjectReview'}).encode()\n"
        "request = urllib.request.Request(url, body, headers)\n"
        "trust = ssl.create_default_context(cafile=place + 'ca.crt')\n"
        "answer = json.load(urllib.request.urlopen(request, context=trust))\n"
        "print(answer['status']['userInfo']['username'])"
    )
    assert run(pods, once(script)) == f"system:serviceaccount:{ns.name}:default\n"


def test_readiness(pods: Resource) -> None:
    """A Pod is Ready when its readiness probe succeeds, not before."""
    probe = {"exec": {"command": ["python", "-c", f"{ROOT}open(root + '/shared/ready')"]}, "periodSeconds": 1}
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    script = f"{ROOT}import signal; input_ = root + '/shared/ready'; open(input_, 'w').close(); signal.pause()"
    main = python(script, volumeMounts=mounts, readinessProbe=probe)
    body = once("", containers=[main], volumes=[{"name": "shared", "emptyDir": {}}], terminationGracePeriodSeconds=0)
    pods.create(body)
    got = pods.wait("one", has("Ready"))
    assert state_of(got)["ready"] is True
    assert "running" in state_of(got)["state"]


def test_a_pod_that_does_not_answer_is_restarted(pods: Resource) -> None:
    """A liveness probe that fails ends the container, which is started again."""
    probe = {"exec": {"command": ["python", "-c", "raise SystemExit(1)"]}, "periodSeconds": 1, "failureThreshold": 1}
    main = python("import signal; signal.pause()", livenessProbe=probe)
    pods.create(pod("one", containers=[main], terminationGracePeriodSeconds=0))
    got = pods.wait("one", lambda one: (one["status"].get("containerStatuses") or [{}])[0].get("restartCount", 0) >= 1)
    assert state_of(got)["lastState"]["terminated"]["exitCode"] != 0
    pods.delete("one", gracePeriodSeconds=0)


def test_one_that_does_not_go_is_killed(pods: Resource) -> None:
    """A container that ignores SIGTERM is gone after its grace."""
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up')\nwhile True: signal.pause()"
    pods.create(once(script, terminationGracePeriodSeconds=1))
    pods.wait("one", lambda one: one["status"]["phase"] == "Running")
    pods.delete("one")
    pods.wait_gone("one")


def test_a_pod_that_wants_too_much_waits(pods: Resource) -> None:
    """What fits on no node stays Pending and says why."""
    resources = {"requests": {"cpu": "100000"}}
    pods.create(once("", containers=[python("pass", resources=resources)]))
    got = pods.wait("one", has("PodScheduled", "False"))
    (condition,) = [one for one in got["status"]["conditions"] if one["type"] == "PodScheduled"]
    assert condition["reason"] == "Unschedulable"
    assert "Insufficient cpu" in condition["message"]


@pytest.mark.needs_controllers
def test_a_job_runs(ns: Namespace, pods: Resource) -> None:
    """A Job of three indexes runs three Pods, each knows its own index."""
    script = "import os; print(os.environ['JOB_COMPLETION_INDEX'])"
    template = {"spec": {"restartPolicy": "Never", "containers": [python(script)]}}
    jobs = ns("batch/v1/jobs")
    jobs.create(job("work", completionMode="Indexed", completions=3, parallelism=3, template=template))
    done = jobs.wait("work", has("Complete"))
    assert (done["status"]["succeeded"], done["status"]["completedIndexes"]) == (3, "0-2")
    assert sorted(log(pods, name) for name in pods.names()) == ["0\n", "1\n", "2\n"]


@pytest.mark.needs_controllers
def test_a_deployment_serves(ns: Namespace, pods: Resource) -> None:
    """A Deployment becomes available, its Service has an endpoint; scaled to nothing, nothing is left."""
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [python("import signal; signal.pause()")], "terminationGracePeriodSeconds": 0},
    }
    web = ns("apps/v1/deployments")
    ns("services").create(service("web"))
    web.create(deployment("web", replicas=2, template=template))
    got = web.wait("web", lambda one: one["status"].get("availableReplicas") == 2)
    assert has("Available")(got)
    slices = ns("discovery.k8s.io/v1/endpointslices")
    with slices.watch(labelSelector="kubernetes.io/service-name=web") as watch:
        watch.until(lambda event: any(one["conditions"]["ready"] for one in event.object["endpoints"] or []))
    web.patch("web", {"spec": {"replicas": 0}}, subresource="scale")
    web.wait("web", lambda one: one["status"].get("replicas", 0) == 0)
    eventually(lambda: pods.names() == [], "no Pod is left")


def test_events_tell_the_story(ns: Namespace, pods: Resource) -> None:
    """Scheduling and starting are told as events of the Pod."""
    run(pods, once("pass"))
    wanted = {"Scheduled", "Started"}
    seen: set[str] = set()
    with ns("events").watch(fieldSelector="involvedObject.name=one") as watch:
        watch.until(lambda event: bool(seen.add(str(event.object.get("reason")))) or wanted <= seen)


def test_many_logs_at_once(pods: Resource) -> None:
    """Ten readers of one log all get all of it."""
    assert run(pods, once("print('x' * 100_000)")) == "x" * 100_000 + "\n"
    seen: list[int] = []
    readers = [threading.Thread(target=lambda: seen.append(len(log(pods)))) for _ in range(10)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert seen == [100_001] * 10

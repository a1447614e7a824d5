"""A real kubectl does its work here as on any cluster: each command of a day's work, once."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from mizzen.local.apiserver.server import ApiServer

from .conftest import Api

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: "nginx:1.27", ports: [{containerPort: 80}]}]}
"""
DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget, shortNames: [wd], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            description: How the widget shall be.
            properties: {size: {type: integer, maximum: 9, description: In inches.}}
          status: {type: object, properties: {phase: {type: string}}}
"""
WIDGET = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 3}\n"


class Kubectl:
    """Runs kubectl against a server, from a folder with the files of a test."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.folder = folder
        editor = folder / "editor"
        editor.write_text('#!/bin/sh\nsed -i "s/replicas: .*/replicas: 7/" "$1"\n')
        editor.chmod(0o755)
        self._env = {
            **os.environ,
            "KUBECONFIG": str(server.kubeconfig),
            "KUBECACHEDIR": str(folder / "cache"),
            "HOME": str(folder),
            "KUBE_EDITOR": str(editor),
        }
        for name, text in (("web.yaml", DEPLOYMENT), ("crd.yaml", DEFINITION), ("w.yaml", WIDGET)):
            (folder / name).write_text(text)

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            "kubectl", *arguments, cwd=self.folder, env=self._env, stdout=pipe, stderr=pipe
        )

    async def __call__(self, command: str, *, code: int = 0, input_file: str = "") -> str:
        arguments = [*command.split(), *([input_file] if input_file else [])]
        process = await self.start(*arguments)
        out, err = await process.communicate()
        assert process.returncode == code, f"kubectl {command}: {out.decode()}{err.decode()}"
        return out.decode() + err.decode()


@pytest.fixture
def kubectl(server: ApiServer, tmp_path: Path) -> Kubectl:
    return Kubectl(server, tmp_path)


async def test_a_deployment(kubectl: Kubectl, api: Api) -> None:
    assert "created" in await kubectl("apply -f web.yaml")
    assert "unchanged" in await kubectl("apply -f web.yaml")
    assert await kubectl("diff -f web.yaml") == ""
    (kubectl.folder / "web.yaml").write_text(DEPLOYMENT.replace("1.27", "1.28"))
    assert "+      - image: nginx:1.28" in await kubectl("diff -f web.yaml", code=1)
    assert "configured" in await kubectl("apply -f web.yaml")
    assert "serverside-applied" in await kubectl("apply --server-side --force-conflicts -f web.yaml")
    assert "scaled" in await kubectl("scale deployment web --replicas=5")
    assert "0/5" in await kubectl("get deployment web")
    assert "edited" in await kubectl("edit deployment web")
    assert await kubectl("get deployment web -o jsonpath={.spec.replicas}") == "7"
    assert "labeled" in await kubectl("label deployment web tier=front")
    assert "annotated" in await kubectl("annotate deployment web why=because")
    assert "web" in await kubectl("get deployments -l tier=front,app -o name")
    assert "image updated" in await kubectl("set image deployment/web main=nginx:1.29")
    described = await kubectl("describe deployment web")
    assert "Replicas:               7 desired" in described
    status = {"observedGeneration": 99, "replicas": 7, "updatedReplicas": 7, "readyReplicas": 7, "availableReplicas": 7}
    await api.merge("/apis/apps/v1/namespaces/default/deployments/web/status", {"status": status})
    assert "successfully rolled out" in await kubectl("rollout status deployment web --timeout=10s")
    assert "deleted" in await kubectl("delete deployment web")
    assert "NotFound" in await kubectl("get deployment web", code=1)


async def test_patches_of_three_types(kubectl: Kubectl) -> None:
    await kubectl("create configmap one --from-literal=a=1")
    await kubectl('patch configmap one -p {"data":{"b":"2"}}')
    await kubectl('patch configmap one --type=merge -p {"data":{"a":null}}')
    await kubectl('patch configmap one --type=json -p [{"op":"add","path":"/data/c","value":"3"}]')
    assert await kubectl("get configmap one -o jsonpath={.data}") == '{"b":"2","c":"3"}'


async def test_what_create_makes(kubectl: Kubectl) -> None:
    """These bodies are protobuf."""
    for command in (
        "deployment d --image=nginx --replicas=0",
        "job j --image=busybox -- true",
        "secret generic s --from-literal=a=b",
        "service clusterip c --tcp=80:8080",
        "serviceaccount robot",
        "namespace other",
        "role r --verb=get --resource=pods",
        "rolebinding b --role=r --serviceaccount=default:robot",
    ):
        assert "created" in await kubectl(f"create {command}")
    assert "configmap/x created (server dry run)" in await kubectl("create configmap x --dry-run=server")
    assert (await kubectl("create token robot")).startswith("eyJ")
    assert "pod/p created" in await kubectl("run p --image=none")
    got = await kubectl("get all")
    assert all(name in got for name in ("pod/p", "service/c", "deployment.apps/d", "job.batch/j"))


async def test_a_kind_of_ones_own(kubectl: Kubectl) -> None:
    assert 'no matches for kind "Widget" in version "example.com/v1"' in await kubectl("apply -f w.yaml", code=1)
    await kubectl("apply -f crd.yaml")
    assert "condition met" in await kubectl("wait --for=condition=Established crd/widgets.example.com")
    assert "widget.example.com/w created" in await kubectl("apply -f w.yaml")
    assert (await kubectl("get wd")).split() == ["NAME", "SIZE", "w", "3"]
    assert "widget.example.com/w" in await kubectl("get all")
    assert "In inches." in await kubectl("explain wd.spec.size")
    assert "widgets" in await kubectl("api-resources --api-group=example.com")
    assert "example.com/v1" in await kubectl("api-versions")
    assert "Size:  3" in await kubectl("describe wd w")
    assert "must be of type integer" in await kubectl('patch wd w --type=merge -p {"spec":{"size":"x"}}', code=1)
    (kubectl.folder / "w.yaml").write_text(WIDGET.replace("size: 3", "sise: 3"))
    assert 'unknown field "spec.sise"' in await kubectl("apply -f w.yaml", code=1)
    assert "patched" in await kubectl('patch wd w --subresource=status --type=merge -p {"status":{"phase":"Ready"}}')
    assert "condition met" in await kubectl("wait --for=jsonpath={.status.phase}=Ready wd/w")
    assert "deleted" in await kubectl("delete crd widgets.example.com")


async def test_a_watch_shows_changes_as_they_come(kubectl: Kubectl, api: Api) -> None:
    watching = await kubectl.start("get", "configmaps", "--watch-only", "--no-headers")
    assert watching.stdout is not None
    maps = "/api/v1/namespaces/default/configmaps"
    async with asyncio.timeout(20):
        number = 0
        reading = asyncio.ensure_future(watching.stdout.readline())
        while not reading.done():  # the watch begins some time after the process
            number += 1
            await api.create(maps, {"metadata": {"name": f"m{number}"}, "data": {"a": "b"}})
        name, data, _ = reading.result().decode().split()
    assert name.startswith("m")
    assert data == "1"
    watching.kill()
    await watching.communicate()


async def test_may_i(kubectl: Kubectl) -> None:
    assert await kubectl("auth can-i create pods") == "yes\n"
    assert "no" in await kubectl("auth can-i create pods --as=bob", code=1)
    assert "admin" in await kubectl("auth whoami")
    assert "selfsubjectaccessreviews" in await kubectl("auth can-i --list --as=bob --as-group=system:authenticated")


async def test_nodes_are_kept_free_and_cleared(kubectl: Kubectl, api: Api) -> None:
    await api.create("/api/v1/nodes", {"metadata": {"name": "n"}})
    assert "cordoned" in await kubectl("cordon n")
    assert "SchedulingDisabled" in await kubectl("get nodes")
    assert "drained" in await kubectl("drain n")
    assert "uncordoned" in await kubectl("uncordon n")
    assert "tainted" in await kubectl("taint node n a=b:NoSchedule")


async def test_the_rest_of_a_day(kubectl: Kubectl) -> None:
    assert "Server Version: v1." in await kubectl("version")
    assert "is running at" in await kubectl("cluster-info")
    assert await kubectl("get --raw /readyz") == "ok"
    assert "No resources found" in await kubectl("get events")
    assert "default" in await kubectl("get namespaces -o wide")
    assert "ClusterRole" in await kubectl("get clusterroles -o yaml")
    assert "kubernetes" in await kubectl("get services -A --field-selector=metadata.name=kubernetes")
    assert "kube-root-ca.crt" in await kubectl("get configmaps --chunk-size=1 -A")

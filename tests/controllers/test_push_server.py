"""The push server: where it answers, as its Pods say; and what is made for it."""

from lightkube.models.core_v1 import PodCondition, PodStatus
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Pod
from tests.controllers.builders import SETTINGS

from mizzen.controllers.dataset import push_server
from mizzen.controllers.install import push_server_objects


def pod(
    *, ready: bool = True, ports: str | None = '{"push": 41233}', labels: dict[str, str] = push_server.LABELS
) -> Pod:
    annotations = {} if ports is None else {"node.mizzen.dev/ports": ports}
    conditions = [PodCondition(type="Ready", status="True" if ready else "False")]
    return Pod(
        metadata=ObjectMeta(name="p", labels=labels, annotations=annotations),
        status=PodStatus(podIP="127.0.0.1", conditions=conditions),
    )


def test_the_address_is_that_of_a_pod_that_is_ready() -> None:
    """On one machine the port that its node chose; on a cluster the Service's name."""
    assert push_server.address([]) is None
    assert push_server.address([pod(ready=False), pod(labels={})]) is None
    assert push_server.address([pod(ready=False), pod()]) == "http://127.0.0.1:41233"
    assert push_server.address([pod(ports=None)]) == "http://mizzen-push.mizzen-system.svc:7082"


def test_what_is_made_fits_together() -> None:
    """The Service and the Deployment choose the same Pods, which run under the account that has the role."""
    deployment, service = push_server.deployment(SETTINGS), push_server.service()
    assert deployment.spec is not None
    assert service.spec is not None
    template = deployment.spec.template
    assert template.metadata is not None
    assert template.spec is not None
    assert service.spec.selector == deployment.spec.selector.matchLabels == template.metadata.labels
    account, role, binding = push_server_objects()
    assert template.spec.serviceAccountName == account["metadata"]["name"] == binding["subjects"][0]["name"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert not any("create" in rule["verbs"] or "*" in rule["verbs"] for rule in role["rules"])

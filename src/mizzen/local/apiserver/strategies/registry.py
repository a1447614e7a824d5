"""Which strategy a resource has."""

from mizzen.local.apiserver.catalog import EVENTS, Served
from mizzen.local.apiserver.strategies import core
from mizzen.local.apiserver.strategies.base import CustomStrategy, Strategy
from mizzen.local.apiserver.strategies.definitions import DefinitionStrategy
from mizzen.local.apiserver.strategies.pods import PodStrategy
from mizzen.local.apiserver.strategies.services import ServiceStrategy
from mizzen.local.apiserver.strategies.workloads import DeploymentStrategy, JobStrategy, WorkloadStrategy

_RBAC = "rbac.authorization.k8s.io"
_CUSTOM = CustomStrategy()
_PLAIN = Strategy()
_BUILTIN: dict[tuple[str, str], Strategy] = {
    EVENTS: core.EventStrategy(),
    ("", "namespaces"): core.NamespaceStrategy(),
    ("", "nodes"): core.NodeStrategy(),
    ("", "pods"): PodStrategy(),
    ("", "serviceaccounts"): core.ServiceAccountStrategy(),
    ("", "services"): ServiceStrategy(),
    ("apiextensions.k8s.io", "customresourcedefinitions"): DefinitionStrategy(),
    ("apps", "deployments"): DeploymentStrategy(),
    ("apps", "replicasets"): WorkloadStrategy(),
    ("batch", "jobs"): JobStrategy(),
    ("coordination.k8s.io", "leases"): core.LeaseStrategy(),
    ("discovery.k8s.io", "endpointslices"): core.EndpointSliceStrategy(),
    (_RBAC, "clusterrolebindings"): core.AccessStrategy(),
    (_RBAC, "clusterroles"): core.AccessStrategy(),
    (_RBAC, "rolebindings"): core.AccessStrategy(),
    (_RBAC, "roles"): core.AccessStrategy(),
}


def strategy_of(served: Served) -> Strategy:
    return _CUSTOM if served.rtype.custom else _BUILTIN.get(served.key, _PLAIN)

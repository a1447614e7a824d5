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
    ("", "configmaps"): core.ConfigMapStrategy(),
    ("", "namespaces"): core.NamespaceStrategy(),
    ("", "nodes"): core.NodeStrategy(),
    ("", "pods"): PodStrategy(),
    ("", "secrets"): core.SecretStrategy(),
    ("", "serviceaccounts"): core.ServiceAccountStrategy(),
    ("", "services"): ServiceStrategy(),
    ("apiextensions.k8s.io", "customresourcedefinitions"): DefinitionStrategy(),
    ("apps", "deployments"): DeploymentStrategy(),
    ("apps", "replicasets"): WorkloadStrategy(),
    ("batch", "jobs"): JobStrategy(),
    ("coordination.k8s.io", "leases"): core.LeaseStrategy(),
    ("discovery.k8s.io", "endpointslices"): core.EndpointSliceStrategy(),
    (_RBAC, "clusterrolebindings"): core.BindingStrategy(),
    (_RBAC, "clusterroles"): core.RoleStrategy(),
    (_RBAC, "rolebindings"): core.BindingStrategy(),
    (_RBAC, "roles"): core.RoleStrategy(),
}


def strategy_of(served: Served) -> Strategy:
    return _CUSTOM if served.rtype.custom else _BUILTIN.get(served.key, _PLAIN)

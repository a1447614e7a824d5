"""Which strategy a resource has."""

from mizzen.local.apiserver.catalog import Served
from mizzen.local.apiserver.strategies.base import CustomStrategy, Strategy
from mizzen.local.apiserver.strategies.core import NamespaceStrategy
from mizzen.local.apiserver.strategies.definitions import DefinitionStrategy

_CUSTOM = CustomStrategy()
_PLAIN = Strategy()
_BUILTIN: dict[tuple[str, str], Strategy] = {
    ("", "namespaces"): NamespaceStrategy(),
    ("apiextensions.k8s.io", "customresourcedefinitions"): DefinitionStrategy(),
}


def strategy_of(served: Served) -> Strategy:
    return _CUSTOM if served.rtype.custom else _BUILTIN.get(served.key, _PLAIN)

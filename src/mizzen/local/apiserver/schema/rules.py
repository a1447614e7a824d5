"""stub"""
from collections.abc import Callable, Iterable
from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.types import Json
DEFAULTS: dict[str, Callable[[Json], Json]] = {}
CHECKS: dict[str, Callable[[Json], Iterable[Cause]]] = {}
def embedded_resource(value: Json) -> Iterable[Cause]:
    return ()
DEFINITION = "x-mizzen-definition"

"""Which load a Dataset wants now: by its spec, by the clock, by its inputs, or because somebody asked.

Each load has a name, and the same occasion always has the same name, so that a controller that looks again, or starts
anew, finds the Job instead of making a second one, and a load whose end is known is not repeated. Somebody's request
goes first, once; what the spec wants is then as settled as it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from mizzen.controllers.jobs import run_name
from mizzen.kinds import Dataset
from mizzen.kinds.data import InputVersion
from mizzen.kinds.names import ANNOTATION_LOAD, LoadRequest
from mizzen.kinds.scalars import duration_s


@dataclass(frozen=True, slots=True)
class Wanted:
    """A load: the name of its Job and what it is to do."""

    run: str
    request: str | None = None
    """The annotation that asked for it; `None` where the spec did."""
    full: bool = False
    restore: int | None = None
    next_in_s: float | None = None
    """When the clock will want another one."""


def wanted_load(dataset: Dataset, inputs: Mapping[str, Dataset], now: datetime) -> Wanted:
    """The load that is wanted, which may have ended already. Raises `ValueError` for a request that makes no sense."""
    occasion, next_in_s = "", None
    refresh = dataset.spec.refresh
    if refresh.every is not None:
        every_s = max(1.0, duration_s(refresh.every))
        slot, into_s = divmod(now.timestamp(), every_s)
        occasion += f" every {int(slot)}"
        next_in_s = every_s - into_s
    if refresh.on_input:
        occasion += " inputs " + ",".join(f"{each.name}@{each.version}" for each in input_versions(dataset, inputs))
    asked = dataset.metadata.annotations.get(ANNOTATION_LOAD)
    if asked is not None and asked != dataset.status.settled_request:
        request = LoadRequest.parse(asked)
        return Wanted(run_name(dataset, f" asked {asked}"), asked, request.full, request.restore, next_in_s)
    return Wanted(run_name(dataset, occasion), next_in_s=next_in_s)


def input_versions(dataset: Dataset, inputs: Mapping[str, Dataset]) -> list[InputVersion]:
    """The versions that a load would read now, as far as there are any."""
    found = []
    for name, asked in sorted(dataset.spec.inputs.items()):
        status = inputs[name].status if name in inputs else None
        version = asked if asked is not None else status.version if status is not None else None
        if version is not None:
            digest = status.digest if status is not None and status.version == version else None
            found.append(InputVersion(name=name, version=version, digest=digest))
    return found


def missing_input(dataset: Dataset, inputs: Mapping[str, Dataset]) -> tuple[str, str] | None:
    """(reason, message) where a dataset that is read is not there, or has no such version yet."""
    for index, (name, asked) in enumerate(dataset.spec.inputs.items()):
        where = f"spec.source.sql.datasets[{index}]"
        if name not in inputs:
            return "InputMissing", f"{where}.name: expected an existing Dataset, found no {name}"
        newest = inputs[name].status.version
        if newest is None:
            return "WaitingForInput", f"waits for dataset {name}, which has no version yet"
        if asked is not None and asked > newest:
            message = f"{where}.version: expected at most {newest}, the newest of {name}, got {asked}"
            return "InputVersionMissing", message
    return None


def circle_of(dataset: Dataset, known: Mapping[str, Dataset]) -> list[str]:
    """The datasets that read each other in a circle through this one, in order; empty where there is none."""
    paths = [[name] for name in dataset.spec.inputs]
    seen: set[str] = set()
    while paths:
        path = paths.pop()
        if path[-1] == dataset.name:
            return [dataset.name, *path]
        if path[-1] in known and path[-1] not in seen:
            seen.add(path[-1])
            paths += [[*path, name] for name in known[path[-1]].spec.inputs]
    return []

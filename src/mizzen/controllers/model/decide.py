"""The status of a Model and of its versions, from the aliases that `policy.aliases` decides."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mizzen.controllers.conditions import Happened, Moment
from mizzen.kinds import Model, ModelVersion
from mizzen.kinds.build import GateResult, ModelStatus, ModelVersionStatus
from mizzen.policy.aliases import PRODUCTION, Aliases, VersionFacts
from mizzen.policy.aliases import decide as decide_aliases

READY, ALIASES_VALID, GATES_PASSED = "Ready", "AliasesValid", "GatesPassed"


@dataclass(frozen=True, slots=True)
class Decision:
    """New statuses: of the model, and of its versions by object name; events for the model."""

    status: ModelStatus
    versions: Mapping[str, ModelVersionStatus] = field(default_factory=dict)
    events: tuple[Happened, ...] = ()


def decide(model: Model, versions: Sequence[ModelVersion], now: str) -> Decision:
    """The decision for one Model and the ModelVersions that name it."""
    facts = [
        VersionFacts(v.spec.version, v.spec.artifact.digest, v.spec.metrics, v.status.gates, unapproved(model, v))
        for v in versions
    ]
    aliases = decide_aliases(model.spec, facts, model.status.aliases, now)
    moment = Moment(model.metadata.generation or 0, now)
    status = model.status.model_copy(deep=True)
    status.aliases = list(aliases.aliases)
    status.versions = len(versions)
    status.latest_version = max((v.spec.version for v in versions), default=None)
    status.production_version = next((a.version for a in aliases.aliases if a.name == PRODUCTION), None)
    if aliases.problems:
        moment.state(status, ALIASES_VALID, "False", "VersionMissing", "; ".join(aliases.problems))
    else:
        moment.state(status, ALIASES_VALID, "True", "Resolved")
    _state_ready(status, aliases, moment)
    by_name = {version.name: _version_status(version, aliases, now) for version in versions}
    return Decision(status, by_name, _events(model, aliases, versions))


def unapproved(model: Model, version: ModelVersion) -> GateResult | None:
    """The gate that a version fails in which there are types nobody approved; the message says how that is done."""
    approved = set(model.spec.trusted_types)
    missing = [name for name in version.spec.artifact.untrusted_types if name not in approved]
    if not missing:
        return None
    wanted = ", ".join(json.dumps(name) for name in [*model.spec.trusted_types, *missing])
    return GateResult(
        gate="types approved",
        passed=False,
        message=f"{version.name} holds types that nobody approved: {', '.join(missing)}. To approve them, which is to "
        f"run their code, write in Model {model.name}: spec.trustedTypes: [{wanted}]",
    )


def _state_ready(status: ModelStatus, aliases: Aliases, moment: Moment) -> None:
    """Ready: `production` points to a version. The message tells how the newest version came out."""
    latest = status.latest_version
    if latest is None:
        moment.state(status, READY, "False", "NoVersions", "no version was made or registered yet")
        return
    production = next((alias for alias in aliases.aliases if alias.name == PRODUCTION), None)
    failed = [result for result in aliases.gates.get(latest, ()) if not result.passed]
    held_back = f"version {latest} was held back: {_first(failed)}" if failed else ""
    if production is None:
        reason = "GatesFailed" if failed else "NoProductionVersion"
        moment.state(status, READY, "False", reason, held_back or "no version is at production")
    elif failed and latest > production.version:
        moment.state(
            status, READY, "True", "NewestHeldBack", f"production is version {production.version}; {held_back}"
        )
    else:
        moment.state(
            status, READY, "True", "Production", f"production is version {production.version}: {production.reason}"
        )


def _first(failed: Sequence[GateResult]) -> str:
    return "; ".join(result.message for result in failed)


def _version_status(version: ModelVersion, aliases: Aliases, now: str) -> ModelVersionStatus:
    moment = Moment(version.metadata.generation or 0, now)
    status = version.status.model_copy(deep=True)
    number = version.spec.version
    status.aliases = [alias.name for alias in aliases.aliases if alias.version == number]
    status.gates = list(aliases.gates.get(number, status.gates))
    failed = [result for result in status.gates if not result.passed]
    if failed:
        moment.state(status, GATES_PASSED, "False", "GateFailed", _first(failed))
    else:
        moment.state(status, GATES_PASSED, "True", "Passed", "; ".join(result.message for result in status.gates))
    moment.state(
        status, READY, "True", "Registered", f"{version.spec.artifact.format}, {version.spec.artifact.bytes} bytes"
    )
    return status


def _events(model: Model, aliases: Aliases, versions: Sequence[ModelVersion]) -> tuple[Happened, ...]:
    """One event for each alias that moved and for each version that was held back for the first time."""
    before = {alias.name: alias.version for alias in model.status.aliases}
    events = [
        Happened("Normal", "AliasMoved", f"{alias.name} -> version {alias.version}: {alias.reason}")
        for alias in aliases.aliases
        if before.get(alias.name) != alias.version
    ]
    for version in versions:
        failed = [result for result in aliases.gates.get(version.spec.version, ()) if not result.passed]
        if failed and not version.status.gates:
            events.append(Happened("Warning", "GatesFailed", f"version {version.spec.version}: {_first(failed)}"))
    return tuple(events)

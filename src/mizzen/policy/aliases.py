"""Where the aliases of a model point.

Two rules. An alias named in the spec is pinned: it points where the spec says. The alias `production`, while it is
not pinned, moves forward by itself to the newest version that meets the gates, and never backward: a gate that is made
stricter later does not take away what is already in use. Where its version was deleted, all that remain are judged
anew. Deciding again from the same facts changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mizzen.kinds.build import AliasStatus, GateResult, ModelSpec
from mizzen.policy.gates import judge_all

PRODUCTION = "production"


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """What is known of one version: `gates` as judged before, empty where it never was."""

    version: int
    digest: str
    metrics: Mapping[str, float]
    gates: Sequence[GateResult] = ()
    held_back: GateResult | None = None
    """A gate that is not of the model's making and that this version fails: types in it that nobody approved."""


@dataclass(frozen=True, slots=True)
class Aliases:
    """The decision: where each alias points, how each version's gates came out, and what is wrong with the spec."""

    aliases: tuple[AliasStatus, ...]
    gates: Mapping[int, Sequence[GateResult]]
    problems: tuple[str, ...]


def decide(spec: ModelSpec, versions: Sequence[VersionFacts], before: Sequence[AliasStatus], now: str) -> Aliases:
    """Where the aliases point now. `before` is where they pointed; `now` is an RFC 3339 time for those that move."""
    known = {facts.version: facts for facts in sorted(versions, key=lambda facts: facts.version)}
    old = {alias.name: alias for alias in before if alias.version in known}
    aliases: dict[str, AliasStatus] = {}
    problems: list[str] = []
    for name, version in sorted(spec.aliases.items()):
        if version in known:
            aliases[name] = _moved(
                old.get(name), name, known[version], now, f"pinned to version {version}", pinned=True
            )
        else:
            have = ", ".join(map(str, known)) or "none"
            problems.append(f"spec.aliases.{name}: expected an existing version ({have}), got {version}")
            if name in old:
                aliases[name] = old[name]
    gates: dict[int, Sequence[GateResult]] = {version: facts.gates for version, facts in known.items() if facts.gates}
    if PRODUCTION not in spec.aliases:
        production = _advanced(spec, known, old.get(PRODUCTION), aliases, gates, now)
        if production is not None:
            aliases[PRODUCTION] = production
    else:
        by_alias = {name: known[alias.version].metrics for name, alias in aliases.items()}
        pinned = aliases[PRODUCTION].version if PRODUCTION in aliases else 0
        for version, facts in known.items():
            if version > pinned or version not in gates:
                gates[version] = _judged(spec, facts, by_alias)
    return Aliases(tuple(aliases[name] for name in sorted(aliases)), gates, tuple(problems))


def _advanced(
    spec: ModelSpec,
    known: Mapping[int, VersionFacts],
    current: AliasStatus | None,
    aliases: Mapping[str, AliasStatus],
    gates: dict[int, Sequence[GateResult]],
    now: str,
) -> AliasStatus | None:
    """`production` after every version newer than where it is was judged in order; fills `gates` as it goes."""
    for version, facts in known.items():
        if current is not None and version <= current.version:
            if version not in gates:
                gates[version] = []
            continue
        by_alias = {name: known[alias.version].metrics for name, alias in aliases.items()}
        if current is not None:
            by_alias[PRODUCTION] = known[current.version].metrics
        results = _judged(spec, facts, by_alias)
        gates[version] = results
        if all(result.passed for result in results):
            reason = "; ".join(result.message for result in results) or "the model has no gates"
            current = _moved(current, PRODUCTION, facts, now, reason, pinned=False)
    if current is not None and current.pinned:
        return current.model_copy(update={"pinned": False})
    return current


def _judged(spec: ModelSpec, facts: VersionFacts, by_alias: Mapping[str, Mapping[str, float]]) -> Sequence[GateResult]:
    held_back = [facts.held_back] if facts.held_back is not None else []
    return [*held_back, *judge_all(spec.gates, facts.metrics, by_alias)]


def _moved(
    old: AliasStatus | None, name: str, facts: VersionFacts, now: str, reason: str, *, pinned: bool
) -> AliasStatus:
    if old is not None and old.version == facts.version and old.digest == facts.digest and old.pinned == pinned:
        return old
    return AliasStatus(name=name, version=facts.version, digest=facts.digest, since=now, pinned=pinned, reason=reason)

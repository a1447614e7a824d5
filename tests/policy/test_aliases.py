"""Aliases: `production` moves forward only through the gates, pins hold, and deciding twice changes nothing."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from mizzen.kinds.build import AliasStatus, Gate, ModelSpec
from mizzen.policy.aliases import Aliases, VersionFacts, decide

T0, T1 = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
GATED = ModelSpec(
    gates=[Gate(metric="auc", at_least=0.7), Gate(metric="auc", compared_with="production", no_worse_by=0.01)]
)


def version(number: int, auc: float) -> VersionFacts:
    return VersionFacts(number, f"sha256:{number:064x}", {"auc": auc})


def production(decision: Aliases) -> AliasStatus | None:
    return next((alias for alias in decision.aliases if alias.name == "production"), None)


def test_the_newest_version_that_meets_the_gates_is_production() -> None:
    versions = [version(1, 0.75), version(2, 0.65), version(3, 0.745), version(4, 0.71)]
    decision = decide(GATED, versions, [], T0)
    alias = production(decision)
    assert alias is not None
    assert (alias.version, alias.since, alias.pinned) == (3, T0, False)
    assert "auc at least 0.7: found 0.745" in alias.reason
    assert [all(result.passed for result in decision.gates[number]) for number in (1, 2, 3, 4)] == [
        True,
        False,
        True,
        False,
    ]


def test_without_gates_every_new_version_is_taken() -> None:
    alias = production(decide(ModelSpec(), [version(1, 0.1), version(2, 0.0)], [], T0))
    assert alias is not None
    assert alias.version == 2


def test_a_pin_holds_and_its_removal_lets_production_move_on() -> None:
    versions = [version(1, 0.75), version(2, 0.76), version(3, 0.77)]
    pinned = GATED.model_copy(update={"aliases": {"production": 1}})
    held = decide(pinned, versions, decide(GATED, versions[:2], [], T0).aliases, T1)
    alias = production(held)
    assert alias is not None
    assert (alias.version, alias.pinned, alias.since) == (1, True, T1)
    freed = production(decide(GATED, versions, held.aliases, T1))
    assert freed is not None
    assert (freed.version, freed.pinned) == (3, False)


def test_a_pin_to_a_version_that_is_not_there_is_a_problem_and_moves_nothing() -> None:
    before = decide(GATED, [version(1, 0.75)], [], T0).aliases
    decision = decide(GATED.model_copy(update={"aliases": {"production": 7}}), [version(1, 0.75)], before, T1)
    assert decision.problems == ("spec.aliases.production: expected an existing version (1), got 7",)
    assert decision.aliases == before


def test_a_stricter_gate_does_not_take_away_what_is_in_use() -> None:
    before = decide(GATED, [version(1, 0.75)], [], T0).aliases
    strict = ModelSpec(gates=[Gate(metric="auc", at_least=0.9)])
    assert decide(strict, [version(1, 0.75), version(2, 0.8)], before, T1).aliases == before


def test_when_its_version_is_deleted_production_is_found_anew() -> None:
    versions = [version(1, 0.75), version(2, 0.76)]
    before = decide(GATED, versions, [], T0).aliases
    alias = production(decide(GATED, versions[:1], before, T1))
    assert alias is not None
    assert alias.version == 1
    assert production(decide(GATED, [], before, T1)) is None


@given(
    aucs=st.lists(st.sampled_from([0.6, 0.69, 0.7, 0.71, 0.72, 0.8]), max_size=8),
    cut=st.integers(min_value=0, max_value=8),
)
def test_deciding_again_or_late_ends_in_the_same_place(aucs: Sequence[float], cut: int) -> None:
    """One version at a time, or all at once after a pause: the same production; and a repeated decision is the same."""
    versions = [version(number, auc) for number, auc in enumerate(aucs, 1)]
    at_once = decide(GATED, versions, [], T0)
    before: Sequence[AliasStatus] = []
    for upto in sorted({cut, *range(len(versions) + 1)}):
        before = decide(GATED, versions[:upto], before, T0).aliases
    assert [a.version for a in before] == [a.version for a in at_once.aliases]
    again = decide(GATED, versions, at_once.aliases, T1)
    assert again.aliases == at_once.aliases

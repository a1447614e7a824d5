"""Outcomes as rows: for the terminal, for Markdown, and for programs."""

from collections.abc import Iterable, Sequence

from mizzen.simulate.outcome import Outcome

HEADERS = (
    "policy", "worker-hours", "idle", "late", "unanswered", "cold", "starts", "from zero", "most workers", "wait p99",
)  # fmt: skip


def rows(outcomes: Iterable[Outcome]) -> list[tuple[str, ...]]:
    """A line for each, in the order of `HEADERS`."""
    return [
        (
            one.policy,
            f"{one.replica_hours:,.1f}",
            f"{100 * one.idle_share:.0f} %",
            f"{100 * one.late_share:.3f} %",
            f"{100 * (one.unanswered / one.requests if one.requests else 0.0):.3f} %",
            f"{100 * one.cold_share:.2f} %",
            f"{one.starts:,}",
            f"{one.cold_starts:,}",
            f"{one.replicas_max:,}",
            f"{one.wait_s(0.99):.3g} s",
        )
        for one in outcomes
    ]


def markdown(outcomes: Sequence[Outcome]) -> str:
    """As a table of Markdown."""
    lines = [HEADERS, tuple("---" if not index else "---:" for index in range(len(HEADERS))), *rows(outcomes)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def document(outcomes: Iterable[Outcome]) -> list[dict[str, float | int | str]]:
    """As plain values, times in seconds."""
    return [
        {
            "policy": one.policy,
            "requests": round(one.requests),
            "replicaSeconds": round(one.replica_s, 1),
            "busySeconds": round(one.busy_s, 1),
            "late": round(one.late, 1),
            "unanswered": round(one.unanswered, 1),
            "cold": round(one.cold),
            "starts": one.starts,
            "coldStarts": one.cold_starts,
            "replicasMax": one.replicas_max,
            "waitSecondsP50": one.wait_s(0.5),
            "waitSecondsP99": one.wait_s(0.99),
        }
        for one in outcomes
    ]

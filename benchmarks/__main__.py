"""Runs the benchmarks one after the other, keeps their rows, and holds them against the budgets.

A benchmark is a module with `run() -> list[Row]`. Its rows go to `results/NAME.json` and into `docs/benchmarks.md`;
`budgets.yaml` says what a row must at least or at most be, and where that number comes from. Peers are measured in the
same run, and budgets are ratios to them wherever there is a peer: machines differ, and are shared.

`serving`, which has more peers, rows of another form and a run of its own (`python -m benchmarks.serving`), is shown and
budgeted with the others.
"""

import importlib
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.serving import report

Row = dict[str, Any]
"""`system`, `version`, `what`, `unit`, `value`, `conditions`."""

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs" / "benchmarks.md"
NAMES = (
    "startup", "apiserver", "gateway", "serving.stages", "serving.processes", "graphs", "grpc", "features", "feature_server", "backfills",
)  # fmt: skip
LONG = ("elasticity", "serving.soak")
"""With a command of their own, and shown with the others."""
INTRODUCTION = (
    "Made by `make bench`, `make bench-serving` (beside other model servers: a quarter of an hour), `make bench-elasticity` "
    "(20 minutes) and `make bench-soak`; the raw rows are in `benchmarks/results`. Peers are measured in the same run on the same machine. Compare ratios, not "
    "numbers: machines differ."
)


def main(names: Sequence[str]) -> int:
    """The exit code: 1 where a budget is not met."""
    for name in names:
        print(f"== {name}", flush=True)
        rows = importlib.import_module(f"benchmarks.{name}").run()
        (HERE / "results").mkdir(exist_ok=True)
        document = {"machine": machine(), "rows": rows}
        (HERE / "results" / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
        print(table(rows))
    DOCS.write_text(page())
    broken = over_budget()
    print("\n".join(broken) or "all budgets met")
    return 1 if broken else 0


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    memory_gib = round(psutil.virtual_memory().total / 1024**3, 1)
    return {
        "cores": psutil.cpu_count(),
        "memory_gib": memory_gib,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table."""
    lines = ["| what | system | version | value | unit | conditions |", "|---|---|---|--:|---|---|"]
    lines += [
        f"| {r['what']} | {r['system']} | {r['version']} | {_number(r['value'])} | {r['unit']} | {r['conditions']} |"
        for r in rows
    ]
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def page() -> str:
    """docs/benchmarks.md, from the results that are there."""
    parts = [
        "# Benchmarks",
        INTRODUCTION,
    ]
    for name in (*NAMES, *LONG):
        path = HERE / "results" / f"{name}.json"
        if path.exists():
            document = json.loads(path.read_text())
            facts = ", ".join(f"{key} {value}" for key, value in document["machine"].items())
            doc = (importlib.import_module(f"benchmarks.{name}").__doc__ or "").strip()
            parts += [f"## {name}", doc, f"Measured on: {facts}.", table(document["rows"])]
    serving = HERE / "results" / "serving.json"
    if serving.exists():
        parts += report.section(json.loads(serving.read_text()))
    parts += ["## Budgets", budgets_in_words()]
    return "\n\n".join(parts) + "\n"


def _budgets() -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = yaml.safe_load((HERE / "budgets.yaml").read_text())
    return loaded


def budgets_in_words() -> str:
    """The budgets as a Markdown table, with what was measured last."""
    lines = ["| budget | measured | met | from |", "|---|--:|---|---|"]
    for budget in _budgets():
        measured = _measured(budget)
        value = "not measured" if measured is None else _number(measured)
        met = "" if measured is None else "yes" if _is_met(budget, measured) else "**no**"
        lines.append(f"| {_in_words(budget)} | {value} | {met} | {budget['from']} |")
    return "\n".join(lines)


def over_budget() -> list[str]:
    """The budgets that are not met, in words."""
    return [
        f"over budget: {_in_words(budget)}: measured {_number(measured)}"
        for budget in _budgets()
        if (measured := _measured(budget)) is not None and not _is_met(budget, measured)
    ]


def _in_words(budget: dict[str, Any]) -> str:
    bound = f"at least {budget['at_least']}" if "at_least" in budget else f"at most {budget['at_most']}"
    peer = f" times that of {budget['times']}" if "times" in budget else ""
    return f"{budget['what']}: {bound}{peer}"


def _measured(budget: dict[str, Any]) -> float | None:
    """The row's value, or its ratio to the peer's."""
    path = HERE / "results" / f"{budget['benchmark']}.json"
    if not path.exists():
        return None
    rows = json.loads(path.read_text())["rows"]

    where, field = budget.get("where", {"what": budget["what"]}), budget.get("field", "value")

    def find(system: str) -> float | None:
        wanted = {**where, "system": system}
        return next((r[field] for r in rows if wanted.items() <= r.items() and field in r), None)

    own = find("mizzen")
    if "times" not in budget or own is None:
        return own
    peer = find(budget["times"])
    return None if not peer else own / peer


def _is_met(budget: dict[str, Any], measured: float) -> bool:
    return bool(measured >= budget["at_least"] if "at_least" in budget else measured <= budget["at_most"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or NAMES))

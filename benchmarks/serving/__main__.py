"""`python -m benchmarks.serving [--only SYSTEM ...] [--seconds S] [--install]`."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.__main__ import DOCS, HERE, machine, over_budget, page
from benchmarks.serving.environments import environment
from benchmarks.serving.load import MissingToolError
from benchmarks.serving.measuring import CannotRunError, Row, measure, write_models
from benchmarks.serving.own import MIZZEN, MIZZEN_PYTHON
from benchmarks.serving.systems import PEERS

SYSTEMS = {system.name: system for system in (MIZZEN, MIZZEN_PYTHON, *PEERS)}
RESULTS = HERE / "results" / "serving.json"


def main() -> int:
    """The exit code: 1 where a budget is not met."""
    parser = argparse.ArgumentParser("benchmarks.serving", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS), metavar="SYSTEM")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each window")
    parser.add_argument("--install", action="store_true", help="make the peers' environments, and end")
    arguments = parser.parse_args()
    if arguments.install:
        return _install(sorted({name.split(",")[0] for name in arguments.only} - {MIZZEN.name}))
    document = _kept(arguments.only)
    document |= {"machine": machine(), "seconds": arguments.seconds, "systems": _systems()}
    for name, rows, why in run(arguments.only, arguments.seconds):
        document["rows"] += rows
        document["left_out"] |= {name: why} if why is not None else {}
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    DOCS.write_text(page())
    broken = over_budget()
    print("\n".join(broken) or "all budgets met")
    return 1 if broken else 0


def _systems() -> dict[str, Any]:
    return {name: {"version": one.version(), "settings": one.settings} for name, one in SYSTEMS.items()}


def _kept(only: list[str]) -> dict[str, Any]:
    """The results of those that are not measured now."""
    if not RESULTS.exists():
        return {"left_out": {}, "rows": []}
    document = json.loads(RESULTS.read_text())
    return {
        "left_out": {name: why for name, why in document["left_out"].items() if name not in only},
        "rows": [row for row in document["rows"] if row["system"] not in only],
    }


def run(names: list[str], seconds: float) -> Iterator[tuple[str, list[Row], str | None]]:
    """Each system with its rows, and why it has none, or no more. What stops one does not stop the others."""
    with tempfile.TemporaryDirectory(prefix="mz-models-") as folder:
        expected = write_models(Path(folder))
        for name in names:
            began_s, rows, why = time.monotonic(), [], None
            try:
                for row in measure(SYSTEMS[name], Path(folder), expected, seconds):
                    rows.append(row)
                    print(_line(row), flush=True)
            except MissingToolError as error:
                raise SystemExit(str(error)) from error
            except CannotRunError as error:
                why = str(error)
            except Exception as error:
                why = f"it was measured no further: {error!r}"
            if why is not None:
                print(f"{name}: {why}", flush=True)
            print(f"-- {name}: {time.monotonic() - began_s:.0f} s", flush=True)
            yield name, rows, why


def _line(row: Row) -> str:
    start = f"{row['system']:9} {row['protocol']:6} {row['model']:6}"
    if "left_out" in row:
        return f"{start} left out: {row['left_out']}"
    how = f"open {row['offered_per_s']:.0f}/s" if row["loop"] == "open" else f"{row['connections']} connection(s)"
    in_time = f", {row['in_time_per_s']:.0f}/s in time" if row["loop"] == "open" else ""
    return (
        f"{start} {how:18} {row['requests_per_s']:9.0f}/s{in_time}  p50 {row['latency_ms_p50']:.3f} ms  "
        f"p99 {row['latency_ms_p99']:.3f} ms  {row['errors']} errors"
    )


def _install(names: list[str]) -> int:
    failed = 0
    for name in names:
        try:
            environment(name)
        except subprocess.CalledProcessError as error:
            failed += 1
            print(f"{name}: {error.stderr[-2000:]}", file=sys.stderr)
        else:
            print(f"{name}: installed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m benchmarks.elasticity [--only PART ...]`: what stops one part does not stop the others."""

import argparse
import json
import sys
import time
import traceback
from typing import Any

from benchmarks.__main__ import DOCS, HERE, machine, over_budget, page, table
from benchmarks.elasticity import PARTS

RESULTS = HERE / "results" / "elasticity.json"


def main() -> int:
    """The exit code: 1 where a part ended with an error, or a budget is not met."""
    parser = argparse.ArgumentParser("benchmarks.elasticity", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART")
    began_s, failed = time.monotonic(), []
    for name in parser.parse_args().only:
        print(f"== {name}", flush=True)
        part_began_s = time.monotonic()
        try:
            rows = PARTS[name]()
        except Exception:
            traceback.print_exc()
            failed.append(name)
            continue
        seconds = round(time.monotonic() - part_began_s)
        _write(name, [{**row, "part": name} for row in rows], seconds)
        print(table(rows), f"-- {name}: {seconds} s", sep="\n", flush=True)
    DOCS.write_text(page())
    broken = [*(f"ended with an error: {name}" for name in failed), *over_budget()]
    print("\n".join(broken) or "all budgets met", f"-- all: {time.monotonic() - began_s:.0f} s", sep="\n")
    return 1 if broken else 0


def _write(name: str, rows: list[dict[str, Any]], seconds: int) -> None:
    """The part's rows in the place of those it had; parts are in their order."""
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": [], "seconds": {}}
    others = [row for row in before["rows"] if row["part"] != name]
    order = list(PARTS)
    every = sorted([*others, *rows], key=lambda row: order.index(row["part"]))
    document = {"machine": machine(), "seconds": {**before["seconds"], name: seconds}, "rows": every}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())

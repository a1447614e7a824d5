"""How results look: tables for people, JSON and YAML for programs; colours and progress only on a terminal."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

GOOD = frozenset({"True", "Running", "Ready", "Succeeded", "Completed", "Active", "ok", "Bound"})
BAD = frozenset({"False", "Failed", "Error", "CrashLoopBackOff", "fail", "NotReady", "OOMKilled"})

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def is_terminal() -> bool:
    """Whether people look at standard output: programs get plain text."""
    return sys.stdout.isatty()


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns under headers, as kubectl prints them: two spaces apart, nothing cut."""
    grid = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold" if is_terminal() else "")
    for header in headers:
        grid.add_column(header.upper(), no_wrap=True, overflow="ignore")
    for row in rows:
        grid.add_row(*(_cell(value) for value in row))
    console.print(grid, crop=False, overflow="ignore", no_wrap=True)


def _cell(value: object) -> Text:
    text = "" if value is None else str(value)
    style = "green" if text in GOOD else "red" if text in BAD else ""
    return Text(text, style=style)


def document(value: Any, form: str) -> None:
    """The value as `json` or `yaml`."""
    if form == "json":
        print(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        print(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), end="")

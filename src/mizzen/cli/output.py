"""How results look: tables for people, JSON and YAML for programs; colours and progress only on a terminal."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from mizzen.kinds.yamltext import dump

GOOD = frozenset({"True", "Running", "Ready", "Succeeded", "Completed", "Active", "ok", "Bound"})
BAD = frozenset({"False", "Failed", "Error", "CrashLoopBackOff", "fail", "NotReady", "OOMKilled"})

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def is_terminal() -> bool:
    """Whether people look at standard output: programs get plain text."""
    return sys.stdout.isatty()


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns under headers, as kubectl prints them: three spaces apart, nothing cut or folded."""
    lines = [[header.upper() for header in headers], *([_words(value) for value in row] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(headers))]
    for number, line in enumerate(lines):
        text = Text()
        for index, (cell, width) in enumerate(zip(line, widths, strict=True)):
            last = index == len(line) - 1
            text.append(cell if last else cell.ljust(width + 3), style="bold" if number == 0 else _style(cell))
        text.rstrip()
        console.print(text, crop=False, overflow="ignore", no_wrap=True)


def _words(value: object) -> str:
    return "" if value is None else " ".join(str(value).split())


def _style(cell: str) -> str:
    return "green" if cell in GOOD else "red" if cell in BAD else ""


def document(value: Any, form: str) -> None:
    """The value as `json` or `yaml`."""
    if form == "json":
        print(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        print(dump(value), end="")

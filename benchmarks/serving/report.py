"""The serving benchmark's section of docs/benchmarks.md, and its plot. Knows the results, and not how they came about."""

import html
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import benchmarks.serving

Row = dict[str, Any]
DOCS = Path(__file__).parents[2] / "docs"
PLOT = DOCS / "benchmarks-serving.svg"
PANELS = (("json", "small"), ("binary", "wide"), ("grpc", "small"), ("json", "heavy"))
WORDS = {
    ("json", "small"): "JSON, small model", ("json", "heavy"): "JSON, heavy model", ("binary", "wide"): "binary tensors, 64 x 128",
    ("grpc", "small"): "gRPC, small model", ("grpc", "heavy"): "gRPC, heavy model",
}  # fmt: skip

OVERLOAD = (
    "Offered: twice the larger of the closed loop's rates at 32 and 128 connections. In time: answered well within the "
    "deadline from when it was due. Of its peak: of the most that it answered in time in the open loop, at the constant rate "
    "above, at three quarters of the closed loop's rate and at all of it. Not sent: due while 1,024 requests waited for their answers."
)
PROFILE = "Where an aim is missed, and what the processors' time goes into: [a profile](request-path-profile.md)."


def section(document: dict[str, Any]) -> list[str]:
    """Its paragraphs in Markdown; writes the plot."""
    rows = [row for row in document["rows"] if "left_out" not in row]
    machine = ", ".join(f"{key} {value}" for key, value in document["machine"].items())
    PLOT.write_text(plot(rows))
    return [
        "## serving",
        (benchmarks.serving.__doc__ or "").strip(),
        f"Measured on: {machine}; windows of {document['seconds']:g} s.",
        f"![Requests each second at 32 connections]({PLOT.name})",
        "### Settings",
        _settings(document),
        "### Closed loop: requests each second (median / p99 in ms)",
        *_closed(rows),
        "### Open loop, latency from when a request was due",
        _steady(rows),
        "### Twice what each can do",
        OVERLOAD,
        _overload(rows),
        *_checked(rows),
        PROFILE,
        *_left_out(document),
    ]


def _table(heads: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    rule = ["---" if number == 0 else "--:" for number in range(len(heads))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, rule, *lines))


def _settings(document: dict[str, Any]) -> str:
    measured = {row["system"] for row in document["rows"]}
    lines = [
        f"| {name} | {facts['version']} | {facts['settings']} |"
        for name, facts in document["systems"].items()
        if name in measured
    ]
    return "\n".join(["| system | version | settings |", "|---|---|---|", *lines])


def _systems(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["system"] for row in rows))


def _closed(rows: list[Row]) -> list[str]:
    closed = {
        (row["protocol"], row["model"], row["system"], row["connections"]): row
        for row in rows
        if row["loop"] == "closed"
    }
    counts = sorted({key[3] for key in closed})
    parts = []
    for (protocol, model), words in WORDS.items():
        lines = [
            [name, *(_cell(closed.get((protocol, model, name, count))) for count in counts)]
            for name in _systems(rows)
            if any((protocol, model, name, count) in closed for count in counts)
        ]
        if lines:
            parts += [f"**{words}**", _table(["connections", *map(str, counts)], lines)]
    return parts


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    errors = f", {row['errors']:,} errors" if row["errors"] else ""
    return f"{row['requests_per_s']:,.0f} ({_ms(row['latency_ms_p50'])} / {_ms(row['latency_ms_p99'])}){errors}"


def _checked(rows: list[Row]) -> list[str]:
    """What was asked beside the load, and read; nothing of results from before that was done."""
    checked, wrong = (sum(row.get(name, 0) for row in rows) for name in ("checked", "wrong"))
    return [f"Answers read while the load ran: {checked:,}; wrong: {wrong:,}."] if checked else []


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _open(rows: list[Row], load: str, line: Callable[[Row], list[str]]) -> list[list[str]]:
    return [
        [f"{row['system']}, {row['model']}", *line(row)]
        for model in ("small", "heavy")
        for row in rows
        if row.get("load") == load and row["model"] == model
    ]


def _steady(rows: list[Row]) -> str:
    return _table(
        ["system, model", "offered 1/s", "p50 ms", "p99 ms", "errors"],
        _open(
            rows, "steady",
            lambda row: [f"{row['offered_per_s']:,.0f}", _ms(row["latency_ms_p50"]), _ms(row["latency_ms_p99"]),
                         f"{row['errors']:,}"],
        ),
    )  # fmt: skip


def _overload(rows: list[Row]) -> str:
    return _table(
        ["system, model", "offered 1/s", "deadline ms", "answered 1/s", "in time 1/s", "of its peak", "p99 ms", "refused", "not sent"],
        _open(
            rows, "overload",
            lambda row: [f"{row['offered_per_s']:,.0f}", f"{row['deadline_ms']:g}", f"{row['requests_per_s']:,.0f}",
                         f"{row['in_time_per_s']:,.0f}", f"{row['goodput_of_peak'] or 0:.0%}", _ms(row["latency_ms_p99"]),
                         f"{row['refused']:,}", f"{row['not_sent']:,}"],
        ),
    )  # fmt: skip


def _left_out(document: dict[str, Any]) -> list[str]:
    said = [f"* {name}: {why}" for name, why in document["left_out"].items()]
    said += [
        f"* {row['system']}, {row['protocol']}, {row['model']}: {row['left_out']}"
        for row in document["rows"]
        if "left_out" in row
    ]
    return ["### Not measured", "\n".join(said)] if said else []


# The plot: a panel for each (protocol, model), a bar for each system, at 32 connections

WIDTH, LABEL, BAR, GAP, TITLE = 900, 130, 18, 6, 34
OURS, THEIRS, INK, RULE = "#1f6f8b", "#b8c4cc", "#1c2326", "#d7dde1"


def plot(rows: list[Row]) -> str:
    """An SVG."""
    parts, top = [], 10
    for protocol, model in PANELS:
        found = {
            row["system"]: row["requests_per_s"]
            for row in rows
            if (row["protocol"], row["model"], row["loop"], row["connections"]) == (protocol, model, "closed", 32)
        }
        if found:
            parts.append(_text(10, top + 20, f"{WORDS[protocol, model]}: requests/s at 32 connections", "bold"))
            parts += _bars(found, top + TITLE)
            top += TITLE + len(found) * (BAR + GAP) + 20
    style = f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" {style}>'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{top}" fill="white"/>', *parts, "</svg>"]) + "\n"


def _bars(found: dict[str, float], top: int) -> list[str]:
    parts, largest = [], max(*found.values(), 1.0)
    room = WIDTH - LABEL - 90
    for number, (name, value) in enumerate(sorted(found.items(), key=lambda item: -item[1])):
        y = top + number * (BAR + GAP)
        width = max(1.0, room * value / largest)
        colour = OURS if name == "mizzen" else THEIRS
        parts += [
            _text(LABEL - 8, y + 14, name, "bold" if name == "mizzen" else "normal", "end"),
            f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>',
            _text(LABEL + round(width) + 6, y + 14, f"{value:,.0f}"),
        ]
    line = f'<line x1="{LABEL}" y1="{top - 4}" x2="{LABEL}" y2="{top + len(found) * (BAR + GAP)}" stroke="{RULE}"/>'
    return [line, *parts]


def _text(x: int, y: int, words: str, weight: str = "normal", anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" font-weight="{weight}" text-anchor="{anchor}">{html.escape(words)}</text>'

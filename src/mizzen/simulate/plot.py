"""The workers of each policy over time above the work there was, as one SVG: written by hand, for there is little in
it.

A point of the picture stands for a stretch of time; what is drawn there is the most of the stretch, so that no peak is
lost, whatever the width.
"""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from mizzen.simulate.outcome import Outcome

WIDTH, ROW, LEFT, TOP, GAP = 960, 130, 56, 34, 26
POINTS = 800
COLOURS = {"forecast": "#0b6e4f", "reactive": "#1f77b4", "kpa": "#c44e52", "fixed": "#7f7f7f"}
STYLE = "font-family='sans-serif' font-size='12' fill='#333'"


def svg(outcomes: Sequence[Outcome], title: str) -> str:
    """The picture. Policies without a series (several endpoints added up) are left out."""
    drawn = [one for one in outcomes if one.series]
    height = TOP + (ROW + GAP) * len(drawn) + 20
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}'>",
        f"<rect width='{WIDTH}' height='{height}' fill='#fff'/>",
        f"<text x='{LEFT}' y='20' {STYLE}>{escape(title)}: workers (line) over the work there was (area)</text>",
    ]
    for index, one in enumerate(drawn):
        parts += _panel(one, TOP + index * (ROW + GAP))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(outcome: Outcome, top: int) -> list[str]:
    span = outcome.series[-1][0] or 1.0
    most = max(max(need, float(workers)) for _, need, workers in outcome.series) or 1.0
    wide, bottom = WIDTH - LEFT - 10, top + ROW
    needs, workers = _thinned([need for _, need, _ in outcome.series]), _thinned([w for _, _, w in outcome.series])
    step = wide / max(1, len(needs) - 1)

    def points(values: Sequence[float]) -> str:
        return " ".join(f"{LEFT + i * step:.1f},{bottom - v / most * (ROW - 16):.1f}" for i, v in enumerate(values))

    colour = COLOURS.get(outcome.policy, "#333")
    words = f"{outcome.policy}: {outcome.replica_hours:,.0f} worker-hours, {100 * outcome.late_share:.2f} % late"
    return [
        f"<polygon points='{LEFT},{bottom} {points(needs)} {WIDTH - 10},{bottom}' fill='#d9d9d9'/>",
        f"<polyline points='{points(workers)}' fill='none' stroke='{colour}' stroke-width='1'/>",
        f"<line x1='{LEFT}' y1='{bottom}' x2='{WIDTH - 10}' y2='{bottom}' stroke='#333'/>",
        f"<text x='{LEFT}' y='{top + 10}' {STYLE}>{escape(words)}</text>",
        f"<text x='{LEFT - 6}' y='{top + 20}' text-anchor='end' {STYLE}>{most:.0f}</text>",
        f"<text x='{LEFT - 6}' y='{bottom}' text-anchor='end' {STYLE}>0</text>",
        f"<text x='{WIDTH - 10}' y='{bottom + 14}' text-anchor='end' {STYLE}>{span / 3600:.1f} h</text>",
    ]


def _thinned(values: Sequence[float]) -> list[float]:
    """At most `POINTS` values, each the most of its stretch."""
    stretch = max(1, -(-len(values) // POINTS))
    return [float(max(values[at : at + stretch])) for at in range(0, len(values), stretch)]

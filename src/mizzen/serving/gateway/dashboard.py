"""Writes the Grafana dashboard: `python -m mizzen.serving.gateway.dashboard [FOLDER]`.

`deploy/grafana/mizzen-endpoints.json` is made from the table of metrics (`families`) and the panels below; a test fails
where the file is not what this would write, or a panel asks for a metric that there is not.
"""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from mizzen.serving.gateway.families import FAMILIES, PREFIX

PATH = Path("deploy/grafana/mizzen-endpoints.json")
_OF = 'namespace=~"$namespace",endpoint=~"$endpoint"'
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 3
_MEANINGS = {family.name: family.meaning for family in FAMILIES}
_KINDS = {family.name: family.kind for family in FAMILIES}


class Panel(NamedTuple):
    """A graph of a metric: of a counter its rate, of a histogram its quantiles, of a gauge what it is."""

    title: str
    metric: str
    unit: str
    by: str = "namespace, endpoint"
    where: str = ""
    """A further condition on labels."""


PANELS = (
    Panel("Requests", "requests_total", "reqps"),
    Panel("Errors by reason", "requests_total", "reqps", "endpoint, outcome", 'outcome!~"ok|cancelled"'),
    Panel("Latency", "request_seconds", "s"),
    Panel("Waiting for a worker", "queue_seconds", "s"),
    Panel("Computing a batch", "compute_seconds", "s"),
    Panel("Rows of a batch", "batch_rows", "short"),
    Panel("Rows of a request", "request_rows", "short"),
    Panel("Rows answered", "rows_total", "rowsps"),
    Panel("Rows waiting", "rows_waiting", "short"),
    Panel("Requests running", "requests_running", "short"),
    Panel("Credits of workers", "credits", "short"),
    Panel("Workers", "workers", "short"),
    Panel("Workers lost", "workers_lost_total", "ops"),
    Panel("Requests with a cache, by where their answer was found", "cache_requests_total", "reqps", "endpoint, found"),
    Panel("Answers kept in memory", "cache_bytes", "bytes"),
    Panel("Requests logged", "logged_total", "reqps"),
    Panel("Requests not logged for want of room", "log_lost_total", "reqps"),
    Panel("Values other online than offline", "feature_skew_ratio", "percentunit"),
    Panel("From keys to vectors", "features_seconds", "s"),
    Panel("Entities looked up", "features_read_total", "ops", "endpoint, view"),
    Panel("Entities not seen", "features_missing_total", "ops", "endpoint, view"),
    Panel("Entities whose row is too old", "features_stale_total", "ops", "endpoint, view"),
    Panel("Entities not looked up: store down", "features_unavailable_total", "ops", "endpoint, view"),
    Panel("Logged requests on their way", "log_waiting_bytes", "bytes"),
)
QUANTILES = (0.5, 0.9, 0.99)


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    return {
        "title": "Mizzen endpoints",
        "uid": "mizzen-endpoints",
        "tags": ["mizzen"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_source(), *(_variable(name) for name in ("namespace", "endpoint"))]},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"}


def _variable(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "$source"},
        "query": f"label_values({PREFIX}workers, {name})",
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, _COLUMNS)
    return {
        "id": number + 1,
        "title": panel.title,
        "description": _MEANINGS[panel.metric],
        "type": "timeseries",
        "datasource": {"type": "prometheus", "uid": "$source"},
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend}
            for index, (expression, legend) in enumerate(expressions(panel))
        ],
    }


def expressions(panel: Panel) -> list[tuple[str, str]]:
    """What is asked of Prometheus, and how the lines are called."""
    where = f"{_OF},{panel.where}" if panel.where else _OF
    legend = " ".join(f"{{{{{label}}}}}" for label in panel.by.split(", ") if label != "namespace")
    name = PREFIX + panel.metric
    kind = _KINDS[panel.metric]
    if kind == "histogram":
        rate = f"sum by (le, {panel.by}) (rate({name}_bucket{{{where}}}[$__rate_interval]))"
        return [(f"histogram_quantile({q}, {rate})", f"{legend} p{100 * q:g}") for q in QUANTILES]
    if kind == "counter":
        return [(f"sum by ({panel.by}) (rate({name}{{{where}}}[$__rate_interval]))", legend)]
    return [(f"sum by ({panel.by}) ({name}{{{where}}})", legend)]


def text() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=1) + "\n"


def main(root: Path) -> None:
    """Writes the file under `root`."""
    path = root / PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text())
    print(f"wrote {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))

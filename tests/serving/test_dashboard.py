"""The Grafana dashboard is made from the metrics there are."""

import json
import re
from pathlib import Path

from mizzen.serving.gateway.dashboard import PANELS, PATH, dashboard, text
from mizzen.serving.gateway.families import FAMILIES, PREFIX

ROOT = Path(__file__).parents[2]


def test_the_file_is_not_stale():
    """`python -m mizzen.serving.gateway.dashboard` was run after the last change to metrics or panels."""
    assert (ROOT / PATH).read_text() == text()


def test_every_panel_asks_for_a_metric_that_there_is():
    names = {family.full_name for family in FAMILIES}
    asked = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    assert asked
    for expression in asked:
        (name,) = re.findall(rf"{PREFIX}[a-z_]+", expression)
        assert name.removesuffix("_bucket") in names
        assert expression.count("(") == expression.count(")")
        assert expression.count("{") == expression.count("}")


def test_every_metric_that_people_watch_has_a_panel():
    """What has none is named here."""
    without = {family.name for family in FAMILIES} - {panel.metric for panel in PANELS}
    assert without == {
        "requests_waiting",
        "bytes_waiting",
        "batches_running",
        "rows_unwanted_total",
        "log_age_seconds",
        "cache_machine_bytes",
    }


def test_it_is_a_dashboard():
    """Panels fill a grid without overlapping, ids are unique, and the variables it uses are its own."""
    made = json.loads(text())
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in made["panels"]]
    assert len(set(places)) == len(places)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in made["panels"])
    assert len({panel["id"] for panel in made["panels"]}) == len(made["panels"])
    variables = {variable["name"] for variable in made["templating"]["list"]}
    assert set(re.findall(r"\$([a-z]\w*)", json.dumps(made["panels"]))) <= variables

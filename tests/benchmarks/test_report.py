"""Results become a page, a plot and a verdict; what was not measured is said and breaks nothing."""

import json
from xml.etree import ElementTree as ET

import pytest
from benchmarks.serving import report

from benchmarks import __main__ as page


def row(system: str, protocol: str = "json", model: str = "small", connections: int = 32, **more) -> dict:
    return {
        "system": system, "protocol": protocol, "model": model, "connections": connections, "requests_per_s": 1000.0,
        "latency_ms_p50": 0.5, "latency_ms_p99": 250.0, "errors": 0, "loop": "closed", **more,
    }  # fmt: skip


def overload(system: str, **more) -> dict:
    return row(
        system, connections=1024, loop="open", load="overload", offered_per_s=2000.0, deadline_ms=100.0, in_time_per_s=950.0,
        refused=7, not_sent=3, goodput_of_peak=0.95, **more,
    )  # fmt: skip


def document(*rows: dict) -> dict:
    names = dict.fromkeys(one["system"] for one in rows)
    return {
        "machine": {"cores": 2}, "seconds": 3.0, "rows": list(rows), "left_out": {"ray": "it did not start"},
        "systems": {name: {"version": "1", "settings": "the best"} for name in names},
    }  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Nothing of the repository is written."""
    (tmp_path / "results").mkdir()
    (tmp_path / "budgets.yaml").write_text("[]")
    monkeypatch.setattr(report, "PLOT", tmp_path / "plot.svg")
    monkeypatch.setattr(page, "HERE", tmp_path)
    return tmp_path


def test_every_result_is_on_the_page(elsewhere):
    rows = [row("mizzen", requests_per_s=2000.0), row("a <peer>"), row("mizzen", errors=4, protocol="grpc"), overload("mizzen"),
            {"system": "mlserver", "protocol": "binary", "model": "wide", "left_out": "it has none"}]  # fmt: skip
    text = "\n".join(report.section(document(*rows)))
    for said in ("2,000 (0.5 / 250)", "4 errors", "ray: it did not start", "mlserver, binary, wide: it has none", "95%",
                 "| mizzen, small | 2,000 | 100 | 1,000 | 950 | 95% | 250 | 7 | 3 |"):  # fmt: skip
        assert said in text, said
    drawn = ET.fromstring((elsewhere / "plot.svg").read_text())
    assert "a <peer>" in [element.text for element in drawn.iter() if element.tag.endswith("text")]


@pytest.mark.parametrize(
    ("bound", "met"),
    [({"at_least": 2.0, "times": "triton"}, True), ({"at_least": 2.1, "times": "triton"}, False),
     ({"at_least": 2000}, True), ({"at_most": 1999}, False), ({"at_least": 3, "times": "nobody"}, None)],
)  # fmt: skip
def test_budgets_find_rows_of_any_form(elsewhere, bound, met):
    results = document(
        row("mizzen", requests_per_s=2000.0), row("triton"), row("triton", connections=1, requests_per_s=1.0)
    )
    (elsewhere / "results" / "serving.json").write_text(json.dumps(results))
    budget = {"benchmark": "serving", "what": "requests", "where": {"protocol": "json", "connections": 32},
              "field": "requests_per_s", "from": "an aim", **bound}  # fmt: skip
    (elsewhere / "budgets.yaml").write_text(json.dumps([budget]))
    assert bool(page.over_budget()) == (met is False)
    assert ("not measured" in page.budgets_in_words()) == (met is None)


def test_the_repositorys_budgets_are_well_formed():
    for budget in page.yaml.safe_load((report.DOCS.parent / "benchmarks" / "budgets.yaml").read_text()):
        assert {"benchmark", "what", "from"} <= set(budget)
        assert ("at_least" in budget) != ("at_most" in budget)

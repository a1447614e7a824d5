"""The metrics page: several processes' numbers as one, in the format that Prometheus reads."""

import re
import time
from pathlib import Path

import pytest

from mizzen.serving.gateway.families import exposition
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.gateway.metrics import MetricsFiles
from mizzen.serving.gateway.numbers import STALE_AFTER_S, Numbers, Standing, added

from .played import Stage, endpoint, turn

pytestmark = pytest.mark.looptime
KEY = ("default", "m")


def numbers(*, age_s: float = 0.0, ok: int = 1, waiting: int = 2) -> Numbers:
    measures = Measures()
    for _ in range(ok):
        measures.answered(3, 0.004)
    measures.batch(3, 0.002)
    measures.waited(0.0001)
    return Numbers(time.time() - age_s, {KEY: measures}, {KEY: Standing(waiting, 1, 1, 2)}, {"not_found": 1})


def test_counters_add_up_and_gauges_are_those_of_the_living():
    total = added([numbers(ok=2), numbers(ok=3), numbers(ok=4, age_s=STALE_AFTER_S + 1)])
    assert total.measures[KEY].outcomes == {"ok": 9}
    assert (total.measures[KEY].rows, sum(total.measures[KEY].request_s.counts)) == (27, 9)
    assert total.refusals == {"not_found": 3}
    assert total.processes == 2
    assert total.standing[KEY] == Standing(4, 2, 2, 2), "each process sees the same workers"


def test_the_page_is_in_prometheus_format():
    """Every line is a comment or a sample; each family is said once; buckets only grow, up to the count."""
    text = exposition(added([numbers(ok=5)]))
    sample = re.compile(r'^[a-z_]+(\{([a-z]+="[^"\\]*",?)+\})? [0-9.e+-]+$')
    lines = text.splitlines()
    assert all(line.startswith(("# HELP ", "# TYPE ")) or sample.match(line) for line in lines)
    families = [line.split(" ")[2] for line in lines if line.startswith("# TYPE ")]
    assert len(families) == len(set(families))
    buckets = [
        float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("mizzen_gateway_request_seconds_bucket")
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 5
    assert 'mizzen_gateway_request_seconds_count{namespace="default",endpoint="m"} 5' in lines
    assert 'mizzen_gateway_requests_total{namespace="default",endpoint="m",outcome="ok"} 5' in lines


@pytest.fixture
async def stage():
    made = Stage()
    made.gateway.endpoint_changed(endpoint())
    return made


def files(tmp_path: Path, stage: Stage, slot: int = 0, *, for_all: bool = False) -> MetricsFiles:
    return MetricsFiles(tmp_path, slot, stage.gateway, for_all=for_all)


async def served(stage: Stage, count: int) -> None:
    link = stage.worker()
    for _ in range(count):
        stage.call(1.0)
        await turn()
        link.answer()


async def test_a_process_in_the_place_of_another_goes_on_counting(stage, tmp_path):
    first = files(tmp_path, stage)
    await served(stage, 3)
    first.write()
    successor = Stage()
    again = files(tmp_path, successor)
    successor.gateway.endpoint_changed(endpoint())
    await served(successor, 2)
    assert again.numbers().measures[KEY].outcomes == {"ok": 5}


async def test_the_page_has_the_own_numbers_as_of_now_and_the_others_as_they_were_written(stage, tmp_path):
    own, other = files(tmp_path, stage), Stage()
    other.gateway.endpoint_changed(endpoint())
    others = files(tmp_path, other, 1)
    await served(other, 4)
    others.write()
    await served(stage, 3)
    status, _, page = own.page("127.0.0.1:5")
    assert status == 200
    assert b'requests_total{namespace="default",endpoint="m",outcome="ok"} 7' in page
    assert b"mizzen_gateway_processes 2" in page


async def test_a_damaged_file_is_left_out(stage, tmp_path):
    (tmp_path / "1.numbers").write_bytes(b"\xff")
    assert b"mizzen_gateway_processes 1" in files(tmp_path, stage).page("127.0.0.1:5")[2]


async def test_a_disk_that_is_full_costs_numbers_only(stage, tmp_path, caplog):
    one = files(tmp_path / "absent", stage)
    one.write()
    assert "No such file" in caplog.text
    assert one.page("[::1]:5")[0] == 200


@pytest.mark.parametrize(
    ("client", "for_all", "status"),
    [
        ("127.0.0.1:5", False, 200),
        ("[::1]:5", False, 200),
        ("[::ffff:127.0.0.1]:5", False, 200),
        ("10.0.0.9:5", False, 403),
        ("[2001:db8::1]:5", False, 403),
        ("", False, 403),
        ("10.0.0.9:5", True, 200),
    ],
)
async def test_the_page_names_endpoints_so_it_is_for_this_machine_unless_asked_otherwise(
    stage, tmp_path, client, for_all, status
):
    assert files(tmp_path, stage, for_all=for_all).page(client)[0] == status

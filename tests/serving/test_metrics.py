"""The metrics page: several processes' numbers as one, in the format that Prometheus reads."""

import math
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.serving.gateway.directory import Logging
from mizzen.serving.gateway.families import exposition
from mizzen.serving.gateway.gateway import Gateway
from mizzen.serving.gateway.measures import ROWS_BUCKETS, SECONDS_BUCKETS, Measures
from mizzen.serving.gateway.metrics import MetricsFiles
from mizzen.serving.gateway.numbers import STALE_AFTER_S, Numbers, Standing, added

from .played import Stage, endpoint, turn

pytestmark = pytest.mark.looptime
KEY = ("default", "m")


def numbers(*, age_s: float = 0.0, ok: int = 1, waiting: int = 2) -> Numbers:
    measures = Measures()
    for _ in range(ok):
        measures.answered(3, 0.004, measures.version(1))
    measures.batch(3, 0.002, measures.version(1))
    measures.waited([0.0001], measures.version(1))
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


def one_of(outcomes: dict[str, int], seconds: list[float], waiting: int, workers: int, age_s: float) -> Numbers:
    measures = Measures(outcomes=dict(outcomes))
    for value in seconds:
        measures.request_s.add(SECONDS_BUCKETS, value)
    return Numbers(time.time() - age_s, {KEY: measures}, {KEY: Standing(rows_waiting=waiting, workers=workers)})


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(["ok", "failed", "queue_full"]), st.integers(1, 9)),
            st.lists(st.floats(0, 40), max_size=5), st.integers(0, 9), st.integers(0, 3),
            st.sampled_from([0.0, STALE_AFTER_S + 1]),
        ),
        min_size=1, max_size=5,
    )
)  # fmt: skip
def test_several_processes_are_as_one_that_did_it_all(processes):
    """Counters and histograms of all, dead or alive; gauges of the living alone, workers not twice."""
    total = added(one_of(*process) for process in processes)
    counted: Counter[str] = Counter()
    seconds: list[float] = []
    for outcomes, took, *_ in processes:
        counted.update(outcomes)
        seconds += took
    alone = one_of(counted, seconds, 0, 0, 0.0).measures[KEY]
    assert total.measures[KEY].outcomes == alone.outcomes
    assert total.measures[KEY].request_s.counts == alone.request_s.counts
    assert total.measures[KEY].request_s.total == pytest.approx(alone.request_s.total)
    living = [process for process in processes if process[4] == 0.0]
    assert total.processes == len(living)
    stands = total.standing.get(KEY, Standing())
    assert stands.rows_waiting == sum(process[2] for process in living)
    assert stands.workers == max((process[3] for process in living), default=0)


@pytest.mark.parametrize("bounds", [SECONDS_BUCKETS, ROWS_BUCKETS])
def test_bounds_are_those_of_native_histograms(bounds):
    """2 ** (n / 2 ** schema) for schema 0 or 1: a server converts them without loss."""
    for schema in (0, 1):
        steps = [math.log2(bound) * 2**schema for bound in bounds]
        if all(abs(step - round(step)) < 1e-9 for step in steps):
            assert [round(step) for step in steps] == list(range(round(steps[0]), round(steps[-1]) + 1))
            return
    raise AssertionError(bounds)


async def test_endpoints_beyond_the_cap_share_their_series(stage, tmp_path, monkeypatch):
    monkeypatch.setattr("mizzen.serving.gateway.gateway.ENDPOINTS_MEASURED_MAX", 2)
    for name in ("b", "c", "d"):
        stage.gateway.endpoint_changed(endpoint(name))
        stage.call(path=f"/v2/models/{name}/infer", body=b"{")
    page = exposition(files(tmp_path, stage).numbers())
    assert 'requests_total{namespace="default",endpoint="b",outcome="bad_request"} 1' in page
    assert 'requests_total{namespace="_other",endpoint="_other",outcome="bad_request"} 2' in page
    assert set(re.findall(r'endpoint="(\w+)"', page)) == {"m", "b", "_other"}
    stage.gateway.endpoint_gone(("default", "b"))
    stage.gateway.endpoint_changed(endpoint("b"))
    assert set(stage.gateway.measures) == {KEY, ("default", "b"), ("_other", "_other")}, "one that was known stays so"


async def test_what_the_prediction_log_lost_is_on_the_page(tmp_path):
    """Read from the rings: true while no writer runs, and of processes that are gone."""
    stage = Stage()
    stage.gateway = Gateway(stage.gateway.clock, connect=stage._linked, log_folder=tmp_path / "rings")
    stage.gateway.endpoint_changed(endpoint(logging=Logging(buffer_bytes=4096)))
    link = stage.worker()
    for _ in range(40):
        stage.call(1.0)
        await turn()
        link.answer()
    found = files(tmp_path, stage).numbers()
    lost, logged = found.standing[KEY].log_lost, found.measures[KEY].logged
    assert lost > 0
    assert logged > 0
    assert lost + logged == 40
    assert f'log_lost_total{{namespace="default",endpoint="m"}} {lost}' in exposition(found)
    assert 0 < found.standing[KEY].log_waiting_bytes <= 4096
    stage.gateway.endpoint_gone(KEY)


async def test_in_flight_and_credits_are_as_the_workers_have_them(stage, tmp_path):
    stage.worker(batches=3)
    stage.call(1.0)
    stage.call(2.0)
    await turn()
    stands = files(tmp_path, stage).numbers().standing[KEY]
    assert (stands.requests_running, stands.batches_running, stands.credits, stands.workers) == (2, 1, 2, 1)

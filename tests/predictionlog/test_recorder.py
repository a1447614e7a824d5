"""What the gateway notes: which requests, and what of them."""

import json
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.parts import PartsExchange
from mizzen.serving.gateway.recorder import share_of
from mizzen.serving.oip import InferenceRequest
from mizzen.serving.tensors import Signature, TensorSpec

from .builders import Log, answer, endpoint, exchange, served, tensor, version


def ids(rows) -> list[str]:
    return [row["request_id"] for row in rows]


def test_an_answer_becomes_a_row_for_each_of_its_rows(tmp_path):
    log = Log(tmp_path)
    recorder = log.recorder(wall=lambda: 1_700_000_000.0, id_prefix="p")
    answer(recorder, "one", [(1.0, 2.0), (3.0, 4.0)], tenant="team", unit="u7", pinned=1)
    recorder.flush()
    first, second = log.everything()
    assert first["time"].year == 2023
    assert {key: first[key] for key in ("request_id", "row", "tenant", "unit", "assignment", "outcome", "status")} == {
        "request_id": "one", "row": 0, "tenant": "team", "unit": "u7", "assignment": "pinned", "outcome": "ok", "status": 200
    }  # fmt: skip
    assert (first["model"], first["version"], first["digest"]) == ("m", 1, version().digest)
    assert (first["queue_s"], first["compute_s"], first["total_s"]) == (
        pytest.approx(0.001), pytest.approx(0.0005), pytest.approx(0.002)
    )  # fmt: skip
    assert [(row["row"], row["input_a"], row["input_b"], row["output_y"]) for row in (first, second)] == [
        (0, 1.0, 2.0, 3.0), (1, 3.0, 4.0, 7.0)
    ]  # fmt: skip
    assert recorder.recorded == 1
    assert recorder.lost == 0


def test_a_failure_is_noted_with_what_is_known_of_it(tmp_path):
    log = Log(tmp_path)
    recorder = log.recorder(id_prefix="p")
    recorder.refused(exchange(), None, HttpError(400, "inputs: none", "bad_request"))
    asked = exchange()
    answer(recorder, "two")
    recorder.refused(asked, served(), HttpError(504, "x" * 5000, "timeout"))
    rows = log.everything()
    assert {(row["status"], row["outcome"], row["input_a"], row["version"]) for row in rows} == {
        (400, "bad_request", None, None), (504, "timeout", None, 1), (200, "ok", 1.0, 1),
    }  # fmt: skip
    (late,) = [row for row in rows if row["status"] == 504]
    assert len(late["error"]) == 1000


@given(st.text(max_size=20))
def test_a_share_is_between_zero_and_one_and_always_the_same(text):
    assert share_of(text) == share_of(text)
    assert 0 <= share_of(text) < 1


def test_shares_are_even():
    shares = [share_of(f"user-{number}") for number in range(4000)]
    for tenth in range(10):
        assert 320 < sum(tenth / 10 <= share < (tenth + 1) / 10 for share in shares) < 480


def test_requests_are_sampled_by_id_or_by_unit_and_errors_always(tmp_path):
    names = [f"id-{number}" for number in range(200)]
    by_request = Log(tmp_path / "r", endpoint(sample=0.3))
    recorder = by_request.recorder()
    for name in names:
        answer(recorder, name)
    recorder.refused(exchange(), None, HttpError(500, "no", "failed"))
    recorder.flush()
    rows = by_request.everything()
    assert {row["request_id"] for row in rows if row["outcome"] == "ok"} == {n for n in names if share_of(n) < 0.3}
    assert [row["outcome"] for row in rows if row["outcome"] != "ok"] == ["failed"]

    by_unit = Log(tmp_path / "u", endpoint(sample=0.5, by="unit", errors=False))
    recorder = by_unit.recorder(id_prefix="p")
    for number, name in enumerate(names):
        answer(recorder, name, unit=f"user-{number % 10}")
    recorder.flush()
    rows = by_unit.everything()
    assert {row["unit"] for row in rows} == {u for n in range(10) if share_of(u := f"user-{n}") < 0.5}
    assert len(rows) == 20 * len({row["unit"] for row in rows})


def test_redacted_values_never_reach_the_ring(tmp_path):
    log = Log(tmp_path, endpoint(redact=("b", "y")))
    recorder = log.recorder()
    answer(recorder, "one", [(1.0, 1234.5), (2.0, 1234.5)])
    recorder.flush()
    (ring,) = log.folder.glob("*.ring")
    assert b"\x00\x50\x9a\x44" not in ring.read_bytes(), "1234.5 as a little-endian float"
    assert [(row["input_a"], row["input_b"], row["output_y"]) for row in log.everything()] == [
        (1, None, None),
        (2, None, None),
    ]


def test_what_finds_no_room_is_counted_and_what_cannot_be_encoded_too(tmp_path):
    log = Log(tmp_path, endpoint(buffer_bytes=8192))
    recorder = log.recorder()
    for number in range(200):
        answer(recorder, f"id-{number}")
        recorder.flush()
    rows = log.everything()
    assert len(rows) + recorder.lost == 200
    assert 0 < recorder.lost < 200
    assert recorder.recorded == len(rows)
    before = recorder.lost
    answer(recorder, "\ud800")
    recorder.flush()
    assert recorder.lost == before + 1


def test_without_a_folder_to_write_to_requests_go_on_and_losses_are_counted(tmp_path):
    (tmp_path / "rings").write_text("a file where a folder should be")
    log = Log(tmp_path)
    now = [0.0]
    log.clock = lambda: now[0]
    recorder = log.recorder()
    for number in range(3):
        answer(recorder, f"id-{number}")
        recorder.flush()
    assert recorder.lost == 3
    (tmp_path / "rings").unlink()
    now[0] = 10.0
    answer(recorder, "after")
    recorder.flush()
    assert ids(log.everything()) == ["after"]
    assert recorder.lost == 3, "kept in the ring from now on"
    assert log.journal().publish().lost == 3


def test_a_new_signature_begins_a_new_stream(tmp_path):
    log = Log(tmp_path)
    recorder = log.recorder()
    answer(recorder, "one")
    other = version(
        2, Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("score", "FP32", (-1,)),), ("a", "c"))
    )
    answer(recorder, "two", by=served(other))
    recorder.flush()
    one, two = log.everything()
    assert (one["input_b"], one["output_y"], two["input_c"], two["output_score"]) == (2.0, 3.0, 2.0, 3.0)
    assert one["output_score"] is None
    assert two["output_y"] is None
    assert len({path.name for path in log.folder.glob("*.stream")}) == 2
    assert all(json.loads(path.read_bytes())["endpoint"] == "m" for path in log.folder.glob("*.stream"))


def test_two_processes_write_two_rings_of_one_table(tmp_path):
    log = Log(tmp_path)
    recorders = [log.recorder() for _ in range(2)]
    for number in range(10):
        answer(recorders[number % 2], f"id-{number}")
    for recorder in recorders:
        recorder.flush()
    assert sorted(ids(log.everything())) == sorted(f"id-{number}" for number in range(10))


def streamed(recorder, id_: str | None, parts: list[list[float]], *, rows=((1.0, 2.0),)) -> PartsExchange:
    """A request whose answer came in these parts."""
    by, clock = served(), time.monotonic
    made = PartsExchange(clock(), clock() + 30)
    made.decoded = InferenceRequest([tensor(by.signature.inputs[0], rows, (len(rows), 2))], len(rows), id=id_)
    made.served = by
    for values in parts:
        recorder.part(made, by, [tensor(by.signature.outputs[0], values, (len(values),))], 0.0001, clock())
        made.parts += 1
    return made


def columns(rows, *names: str) -> list[tuple]:
    return sorted(tuple(row[name] for name in names) for row in rows)


def test_the_parts_of_an_answer_are_rows_and_the_inputs_are_with_the_first(tmp_path):
    log = Log(tmp_path)
    recorder = log.recorder(id_prefix="p")
    done = streamed(recorder, None, [[1.0], [2.0], [3.0]])
    recorder.streamed(done, served(), time.monotonic())
    rows = log.everything()
    names = ("part", "row", "input_a", "input_b", "output_y", "outcome")
    assert columns(rows, *names) == [
        (0, 0, 1.0, 2.0, 1.0, "ok"), (1, 0, None, None, 2.0, "ok"), (2, 0, None, None, 3.0, "ok"),
    ]  # fmt: skip
    assert {(row["request_id"], row["version"]) for row in rows} == {(done.decoded.id, 1)}


def test_a_stream_that_breaks_off_keeps_its_parts_and_says_which_did_not_come(tmp_path):
    log = Log(tmp_path)
    recorder = log.recorder()
    broken = streamed(recorder, "broken", [[1.0]])
    recorder.refused(broken, served(), HttpError(500, "the worker was lost", "worker_lost"))
    early = streamed(recorder, "early", [])
    recorder.refused(early, served(), HttpError(503, "no worker", "no_worker"))
    assert sorted(
        (row["request_id"], row["part"] if row["part"] is not None else -1, row["outcome"], row["input_a"])
        for row in log.everything()
    ) == [("broken", 0, "ok", 1.0), ("broken", 1, "worker_lost", None), ("early", -1, "no_worker", 1.0)]


def test_parts_of_other_rows_than_the_request_have_it_for_themselves(tmp_path):
    log = Log(tmp_path)
    recorder = log.recorder()
    streamed(recorder, "several", [[1.0, 2.0], [], [3.0]])
    recorder.streamed(streamed(recorder, "none", []), served(), time.monotonic())
    found = log.everything()
    assert [(row["part"], row["input_a"], row.get("output_y")) for row in found if row["request_id"] == "none"] == [
        (None, 1.0, None)
    ]
    several = [row for row in found if row["request_id"] == "several"]
    assert sorted((row["part"] if row["part"] is not None else -1, row["row"], row["input_a"], row["output_y"])
                  for row in several) == [(-1, 0, 1.0, None), (0, 0, None, 1.0), (0, 1, None, 2.0), (2, 0, None, 3.0)]  # fmt: skip


def test_streams_are_sampled_whole(tmp_path):
    log = Log(tmp_path, endpoint(sample=0.5, errors=False))
    recorder = log.recorder()
    for number in range(50):
        streamed(recorder, f"s{number}", [[1.0], [2.0]])
    counts = Counter(ids(log.everything()))
    assert set(counts.values()) == {2}
    assert 5 < len(counts) < 45

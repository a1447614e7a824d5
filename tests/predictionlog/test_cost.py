"""What the log costs a request does not depend on how the log is: compared by work done, not by time.

Work is counted as calls of functions, Python's and C's, by the log's modules, between a batch's answer and its leaving.
"""

import sys

import pytest
from tests.serving.played import Stage, endpoint, turn

from mizzen.serving.gateway.directory import Logging
from mizzen.serving.gateway.gateway import Gateway
from mizzen.serving.predictionlog.ring import RingReader

pytestmark = pytest.mark.looptime
OURS = ("/recorder.py", "/ring.py", "/record.py")


def logged(tmp_path, buffer_bytes: int) -> Stage:
    stage = Stage()
    stage.gateway = Gateway(stage.gateway.clock, connect=stage._linked, log_folder=tmp_path / "rings")
    stage.gateway.endpoint_changed(endpoint(logging=Logging(buffer_bytes=buffer_bytes)))
    return stage


async def calls_of(stage: Stage, link, requests: int = 4) -> int:
    """How many functions are called to answer a batch of so many requests."""
    asked = [stage.call(float(number)) for number in range(requests)]
    await turn()
    count = 0

    def counted(frame, event, _) -> None:
        nonlocal count
        count += event in {"call", "c_call"} and frame.f_code.co_filename.endswith(OURS)

    sys.setprofile(counted)
    try:
        link.answer()
    finally:
        sys.setprofile(None)
    assert [call.reply.values for call in asked] == [[2.0 * number] for number in range(requests)]
    return count


async def test_a_full_ring_costs_a_request_no_more_than_one_with_room(tmp_path):
    """The lake is away, the spool and then the ring are full: each batch is answered with no more work than before."""
    stage = logged(tmp_path, 16384)
    link = stage.worker()
    await calls_of(stage, link)
    with_room = await calls_of(stage, link)
    recorder = stage.gateway.services["default", "m"].recorder
    while not recorder.lost:
        await calls_of(stage, link)
    full = [await calls_of(stage, link) for _ in range(3)]
    assert 0 < max(full) <= with_room
    assert recorder.lost >= 3 * 4
    recorder.close()


async def test_a_ring_that_is_read_meanwhile_costs_no_more_either(tmp_path):
    stage = logged(tmp_path, 1 << 20)
    link = stage.worker()
    await calls_of(stage, link)
    alone = await calls_of(stage, link)
    (path,) = (tmp_path / "rings").glob("*/*.ring")
    reader = RingReader.open(path)
    for _ in range(3):
        for _, end, _ in reader.frames(1 << 20):
            reader.taken(end)
        assert await calls_of(stage, link) == alone
    reader.close()
    stage.gateway.services["default", "m"].recorder.close()


async def test_an_endpoint_that_is_not_logged_pays_two_questions_a_batch(tmp_path):
    """A batch of four requests: no call of the log's, and no more calls than the two that hold and release answers."""
    names: set[str] = set()
    stage = Stage()
    stage.gateway.endpoint_changed(endpoint())
    link = stage.worker()
    asked = [stage.call(float(number)) for number in range(4)]
    await turn()

    def noted(frame, event, _) -> None:
        if event == "call":
            names.add(frame.f_code.co_filename.rpartition("/")[2] + ":" + frame.f_code.co_name)

    sys.setprofile(noted)
    try:
        link.answer()
    finally:
        sys.setprofile(None)
    assert all(call.reply.status == 200 for call in asked)
    assert {name for name in names if f"/{name.partition(':')[0]}" in {*OURS, "/observer.py"}} == set()

"""Events tell what happened once, count what repeats, and never hold anyone up."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Node, Pod

from mizzen.kube.events import Correlator, Note, Recorder, Subject

from .fake_server import FakeServer, virtual_now

POD = Pod(metadata=ObjectMeta(name="p", namespace="n", uid="u", resourceVersion="5"))


def note(message: str = "m", name: str = "p", reason: str = "R") -> Note:
    return Note(Subject("v1", "Pod", "n", name, f"uid-{name}"), "Normal", reason, message)


def test_the_same_words_again_are_counted() -> None:
    correlator = Correlator()
    first = correlator.decide(note(), 0)
    assert (first.count, first.event_name) == (1, None)
    correlator.wrote(first, "p.1")
    second = correlator.decide(note(), 1)
    assert (second.count, second.event_name) == (2, "p.1")
    other = correlator.decide(note("other"), 2)
    assert (other.count, other.event_name) == (1, None)
    correlator.gone(second)
    assert correlator.decide(note(), 3).event_name is None


def test_many_different_words_of_one_reason_become_one_event() -> None:
    correlator = Correlator()
    written = [correlator.decide(note(f"failed at {n}"), n) for n in range(15)]
    assert [write.message for write in written[:10]] == [f"failed at {n}" for n in range(10)]
    assert all(write.message.startswith("(combined from similar events): ") for write in written[10:])
    assert correlator.decide(note("failed again", reason="Other"), 16).message == "failed again"
    assert correlator.decide(note("failed much later"), 16 + 601).message == "failed much later"


def test_combined_events_are_one_event() -> None:
    """What is combined counts up one Event, whatever the last words were."""
    correlator = Correlator()
    for n in range(10):
        correlator.decide(note(f"failed at {n}"), n)
    first = correlator.decide(note("failed at x"), 11)
    correlator.wrote(first, "p.9")
    second = correlator.decide(note("failed at y"), 12)
    assert (second.event_name, second.count) == ("p.9", 2)
    assert second.message.endswith("failed at y")


@given(st.lists(st.floats(0, 200), max_size=120))
def test_an_object_that_is_talked_about_too_much_is_held_to_a_rate(pauses_s: list[float]) -> None:
    """At most 25 and one for each 5 minutes, and another object is not held by it."""
    correlator, now_s, written = Correlator(), 0.0, 0
    for n, pause_s in enumerate(pauses_s):
        now_s += pause_s
        written += correlator.decide(note(reason=f"R{n}"), now_s) is not None
    assert written <= 25 + now_s / 300 + 1e-9
    assert correlator.decide(note(name="other"), now_s) is not None


@pytest.mark.looptime
async def test_the_event_says_who_what_and_when() -> None:
    server = FakeServer()
    recorder = Recorder(server.client(), "tester", clock=virtual_now)
    running = asyncio.create_task(recorder.run())
    recorder.warning(POD, "BackOff", "back-off restarting")
    await recorder.flush(5)
    await asyncio.sleep(60)
    recorder.warning(POD, "BackOff", "back-off restarting")
    await recorder.flush(5)
    ((_, name), event) = next(iter(server.of("events").items()))
    assert name.startswith("p.")
    assert event["metadata"]["namespace"] == "n"
    assert event["involvedObject"] == {
        "apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": "n", "uid": "u", "resourceVersion": "5",
    }  # fmt: skip
    assert (event["type"], event["reason"], event["message"]) == ("Warning", "BackOff", "back-off restarting")
    assert (event["count"], event["source"]) == (2, {"component": "tester"})
    assert event["firstTimestamp"] == "2026-01-01T00:00:00Z"
    assert event["lastTimestamp"] == "2026-01-01T00:01:00Z"
    assert len(server.of("events")) == 1
    assert recorder.statistics().written == 2
    running.cancel()


@pytest.mark.looptime
async def test_events_of_an_object_without_namespace_go_to_default_and_one_that_is_gone_is_written_anew() -> None:
    server = FakeServer()
    recorder = Recorder(server.client(), "tester", clock=virtual_now)
    running = asyncio.create_task(recorder.run())
    node = Node(metadata=ObjectMeta(name="n1"))
    recorder.normal(node, "Ready", "is ready")
    await recorder.flush(5)
    ((namespace, name), event) = next(iter(server.of("events").items()))
    assert namespace == "default"
    assert "namespace" not in event["involvedObject"]
    server.remove("events", name)
    recorder.normal(node, "Ready", "is ready")
    await recorder.flush(5)
    assert [event["count"] for event in server.of("events").values()] == [1]
    running.cancel()


@pytest.mark.looptime
async def test_recording_never_waits_and_never_raises() -> None:
    """With the server gone, ten thousand notes take no time, the oldest are dropped, and the rest is not retried."""
    server = FakeServer()
    server.down = True
    recorder = Recorder(server.client(), "tester", clock=virtual_now)
    running = asyncio.create_task(recorder.run())
    for n in range(10_000):
        recorder.normal(POD, "R", f"{n}" * 2000)
    assert asyncio.get_running_loop().time() == 0
    statistics = recorder.statistics()
    assert (statistics.dropped, statistics.waiting) == (9000, 1000)
    await recorder.flush(3)
    assert asyncio.get_running_loop().time() == 3
    server.down = False
    await recorder.flush(1000)
    assert recorder.statistics().failed > 0
    assert not running.done()
    running.cancel()

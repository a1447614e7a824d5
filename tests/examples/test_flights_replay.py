"""The replay against a server that refuses, breaks off and errs as real ones do: nobody is asked twice for nothing, and
what is counted is what happened."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import replay as replay_module
import yaml
from feed import SOURCES
from flights import FEED_S
from replay import Questions, replay

from mizzen.kinds import kind_named

ROWS = 60


class Endpoint:
    """An endpoint whose probability is the first value of the row; `script` says what else a request meets first."""

    def __init__(self, script: dict[int, list[str]]) -> None:
        self.script = script
        self.seen: list[int] = []
        self.open = self.most_open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().lower().split("\r\n")
                assert lines[0] == "post /v2/models/late-arrival/infer http/1.1"
                assert "authorization: bearer the-key" in lines
                length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length"))
                inputs = json.loads(await reader.readexactly(length))["inputs"]
                assert [(tensor["name"], tensor["datatype"], tensor["shape"]) for tensor in inputs] == [
                    ("p", "FP64", [1, 1]), ("row", "INT64", [1, 1]), ("origin", "BYTES", [1, 1])
                ]  # fmt: skip
                (probability,), (row,), _ = (tensor["data"] for tensor in inputs)
                self.seen.append(row)
                if not await self.answer(writer, row, probability):
                    break
        except (asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the server ends
        finally:
            self.open -= 1
            writer.close()

    async def answer(self, writer: asyncio.StreamWriter, row: int, probability: float) -> bool:
        what = self.script.get(row, []).pop(0) if self.script.get(row) else "200"
        if what == "cut":
            return False
        if what == "silence":
            await asyncio.Event().wait()
        data = {
            "outputs": [
                {"name": "label", "data": [0]},
                {"name": "probabilities", "data": [1 - probability, probability]},
            ]
        }
        body = json.dumps(data if what == "200" else {"error": "not now"}).encode()
        closes = what == "503-close"
        extra = "Connection: close\r\n" if closes else "Retry-After: 0\r\n" if what == "429" else ""
        status = what[:3]
        writer.write(f"HTTP/1.1 {status} X\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        return not closes


@asynccontextmanager
async def serving(endpoint: Endpoint) -> AsyncIterator[str]:
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield f"http://{host}:{port}/v2/models/late-arrival"
    finally:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


def questions() -> Questions:
    """Rows whose first value ranks them perfectly but for one; the last two never arrived."""
    probability = np.linspace(0, 1, ROWS)
    rows = [(float(p), row, "JFK") for row, p in enumerate(probability)]
    late = (probability > 0.5).astype(np.float64)
    late[0] = 1.0
    late[-2:] = np.nan
    return Questions(["p", "row", "origin"], rows, np.arange(ROWS) // 20 * FEED_S + 7, late)


class Boards:
    """A feed that notes how many had been asked about when it was moved, and to when."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.moved: list[tuple[int, int, int]] = []

    async def bring(self, to_s: int, then_s: int) -> int:
        self.moved.append((len(self.endpoint.seen), to_s, then_s))
        return 5


async def test_a_month_is_asked_and_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each flight once; AUC over those that arrived; a bounded number of connections; progress is told."""
    told: list[tuple[int, int]] = []
    endpoint = Endpoint({})
    async with serving(endpoint) as url:
        outcome = await replay(url, questions(), api_key="the-key", connections=4, told=lambda *args: told.append(args))
    assert sorted(endpoint.seen) == list(range(ROWS))
    assert endpoint.most_open == 4
    assert (outcome.requests, outcome.errors, outcome.retries, outcome.scored) == (60, 0, 0, 58)
    late, other = 28 + 1, 58 - 29
    assert outcome.roc_auc == pytest.approx((28 * other) / (late * other))
    assert 0 < outcome.latency_ms_p50 <= outcome.latency_ms_p99


async def test_what_is_known_moves_on_when_everybody_before_was_answered() -> None:
    """Three times: not before the last of the twenty has its answer, nor after the first of the next is asked."""
    endpoint = Endpoint({19: ["429", "503"]})
    boards = Boards(endpoint)
    async with serving(endpoint) as url:
        outcome = await replay(url, questions(), api_key="the-key", connections=4, feed=boards)
    assert boards.moved == [(0, 0, FEED_S), (22, FEED_S, 2 * FEED_S), (42, 2 * FEED_S, 2 * FEED_S)]
    assert (outcome.pushed, outcome.errors) == (15, 0)


async def test_what_is_refused_or_cut_off_is_asked_again() -> None:
    """429 with its Retry-After, 503 and a closed connection, a connection lost under the request; no error in the end."""
    script = {3: ["429", "429"], 7: ["503-close"], 11: ["cut"], 12: ["cut", "503", "429"]}
    endpoint = Endpoint({row: list(steps) for row, steps in script.items()})
    async with serving(endpoint) as url:
        outcome = await replay(url, questions(), api_key="the-key", connections=3)
    assert (outcome.errors, outcome.retries, outcome.scored) == (0, 7, 58)
    assert sorted(set(endpoint.seen)) == list(range(ROWS))


async def test_what_is_wrong_is_an_error_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """400 is not asked again; silence is given up when patience ends; the outcome says what they were."""
    monkeypatch.setattr(replay_module, "PATIENCE_S", 0.2)
    endpoint = Endpoint({5: ["400"], 9: ["silence"]})
    async with serving(endpoint) as url:
        outcome = await replay(url, questions(), api_key="the-key", connections=2)
    assert (outcome.errors, outcome.scored) == (2, 56)
    assert set(outcome.first_errors) == {'400: {"error": "not now"}', "no answer, for 0 s"}


async def test_a_server_that_is_not_there_is_an_error_for_each_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the scores are unknown, not zero."""
    monkeypatch.setattr(replay_module, "PATIENCE_S", 0.05)
    outcome = await replay("http://127.0.0.1:1/v2/models/x", questions(), connections=30)
    assert (outcome.errors, outcome.scored) == (60, 0)
    assert np.isnan(outcome.roc_auc)


def test_the_resources_are_valid() -> None:
    """Each document is one of our kinds, and their names agree."""
    text = (Path(__file__).parents[2] / "examples" / "flights" / "resources.yaml").read_text()
    objects = {
        document["kind"]: kind_named(document["kind"]).model_validate(document) for document in yaml.safe_load_all(text)
    }
    assert list(objects) == ["Dataset", "FeatureView", "Model", "TrainingJob", "InferenceEndpoint"]
    assert objects["TrainingJob"].spec.model == objects["Model"].name
    trained_on = [taken.view for taken in objects["TrainingJob"].spec.features.taken()]
    looked_up = objects["InferenceEndpoint"].spec.features
    assert [used.view for used in looked_up.views] == trained_on == list(SOURCES)
    assert looked_up.time == objects["TrainingJob"].spec.features.spine.time
    assert objects["InferenceEndpoint"].spec.model == f"{objects['Model'].name}@production"

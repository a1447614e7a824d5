"""What is traced, as clients set it: of a model, of a namespace, for so many requests; by all processes of a gateway."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.trace_settings import LOOK_EVERY_S, TraceSettings

from .builders import summing_model
from .played import api_key
from .stack import Stack, eventually

KEY, OTHER = "a-key-of-all", "a-key-of-one"
HERE, THERE = ("default", "m"), ("default", "other")
ALL, NONE = 0, (1 << 64) - 1


@pytest.fixture
def settings(tmp_path: Path) -> TraceSettings:
    return TraceSettings(1.0, tmp_path / "traces.json")


def refused(settings: TraceSettings, **wanted: object) -> str:
    with pytest.raises(HttpError) as caught:
        settings.change("default", "m", wanted)
    assert caught.value.status == 400
    return caught.value.message


def test_a_models_settings_count_before_its_namespaces_and_those_before_the_gateways(settings: TraceSettings) -> None:
    assert settings.draws(HERE, NONE)
    settings.change("default", None, {"trace_level": ["OFF"]})
    assert not settings.draws(HERE, ALL)
    assert not settings.draws(HERE, None), "nor where the caller traces it"
    assert settings.draws(("elsewhere", "m"), ALL)
    settings.change("default", "m", {"trace_level": "TIMESTAMPS", "trace_rate": "4"})
    assert [settings.draws(HERE, drawn) for drawn in (ALL, NONE // 4 - 1, NONE // 4 + 1)] == [True, True, False]
    assert settings.draws(HERE, None), "who traces is followed whatever the rate"
    assert not settings.draws(THERE, ALL)
    settings.change("default", "m", {"trace_level": None, "trace_rate": None})
    assert not settings.draws(HERE, ALL), "the namespace's again"
    settings.change("default", None, {"trace_level": None})
    assert settings.draws(HERE, NONE)


def test_so_many_are_traced_by_all_processes_together(tmp_path: Path) -> None:
    """Two processes share a count of three; what one sets the other knows a little later."""
    now = 0.0
    one, other = (TraceSettings(1.0, tmp_path / "traces.json", lambda: now) for _ in range(2))
    assert one.draws(HERE, ALL)
    assert other.draws(HERE, ALL)
    one.change("default", "m", {"trace_count": 3})
    now += LOOK_EVERY_S
    drawn = [each.draws(HERE, ALL) for _ in range(4) for each in (one, other)]
    assert drawn == [True] * 3 + [False] * 5
    assert other.told("default", "m")["trace_count"] == ["0"]
    assert other.draws(THERE, ALL)


def test_what_cannot_be_set_is_said_and_sets_nothing(settings: TraceSettings) -> None:
    assert refused(settings, trace_level=["TIMESTAMPS", "TENSORS"]).startswith(
        "trace_level: expected OFF or TIMESTAMPS"
    )
    assert refused(settings, trace_rate="-1") == "trace_rate: expected an integer of at least 0, got '-1'"
    assert refused(settings, trace_count="many") == "trace_count: expected an integer of at least -1, got 'many'"
    assert refused(settings, trace_rate=["5"], log_frequency="10").startswith("log_frequency: expected 0")
    assert refused(settings, trace_file="/etc/passwd").startswith("trace_file: expected one of trace_level, trace_rate")
    assert settings.told("default", "m") == {
        "trace_level": ["TIMESTAMPS"], "trace_rate": ["1"], "trace_count": ["-1"], "log_frequency": ["0"],
    }  # fmt: skip


def test_a_caller_who_traces_is_followed_whatever_is_set_elsewhere(tmp_path: Path) -> None:
    settings = TraceSettings(0.0, tmp_path / "traces.json")
    assert (settings.draws(HERE, None), settings.draws(HERE, ALL)) == (True, False)
    settings.change("default", "other", {"trace_rate": 1})
    assert (settings.draws(HERE, None), settings.draws(HERE, ALL), settings.draws(THERE, ALL)) == (True, False, True)


def test_without_a_collector_nothing_can_be_set() -> None:
    settings = TraceSettings(0.0)
    assert refused(settings, trace_level="TIMESTAMPS").endswith("a collector of traces (--traces), found none")
    assert settings.change("default", "m", {"trace_level": ["OFF"]})["trace_level"] == ["OFF"]


class Collector(BaseHTTPRequestHandler):
    names: list[str] = []

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["content-length"])))
        spans = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
        self.names.extend(span["name"] for span in spans if "parentSpanId" not in span)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def collected() -> Iterator[tuple[Stack, list[str]]]:
    """A gateway of two processes with one endpoint, and the traces that its collector got."""
    handler = type("OneCollector", (Collector,), {"names": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, Stack() as stack:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        digest = stack.put(summing_model())
        stack.serve(digest, "sums")
        stack.worker(digest, "sums")
        stack.keys["all"] = api_key(hashlib.sha256(KEY.encode()).hexdigest(), endpoints=None)
        stack.keys["one"] = api_key(hashlib.sha256(OTHER.encode()).hexdigest(), endpoints=["sums"])
        stack.tell()
        stack.start_gateway(2, "--traces", f"http://127.0.0.1:{server.server_port}", "--traces-ratio", "0")
        with stack.client() as client:
            path = "/v2/models/sums/ready"
            eventually(lambda: client.ask("GET", path, headers=headers(KEY)).status == 200, "sums is ready")
        yield stack, handler.names
        server.shutdown()
        thread.join()


def headers(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_tritons_client_sets_what_is_traced(collected: tuple[Stack, list[str]], protocol: str) -> None:
    """Its session: told, set for one model, traced so many times and no more, cleared; what cannot be is refused."""
    stack, traced = collected
    module = getattr(tritonclient, protocol)
    client = module.InferenceServerClient(f"127.0.0.1:{stack.port}" if protocol == "http" else stack.grpc)
    as_json = {"as_json": True} if protocol == "grpc" else {}

    def words(settings: dict) -> dict[str, object]:
        found = settings.get("settings", settings)
        return {name: each["value"] if isinstance(each, dict) else each for name, each in found.items()}

    def change(model: str | None, key: str = KEY, **wanted: object) -> dict[str, object]:
        return words(client.update_trace_settings(model, wanted, headers=headers(key), **as_json))

    def ask() -> None:
        rows = module.InferInput("input", [1, 2], "FP32")
        rows.set_data_from_numpy(np.array([[1.0, 2.0]], np.float32))
        client.infer("sums", [rows], headers=headers(KEY))

    told = words(client.get_trace_settings("sums", headers=headers(KEY), **as_json))
    assert (told["trace_level"], list(told["trace_rate"])) == (["TIMESTAMPS"], ["0"]), "who traces is followed"
    ask()
    found = change("sums", OTHER, trace_level=["TIMESTAMPS"], trace_rate="1", trace_count="3")
    assert (found["trace_level"], list(found["trace_count"])) == (["TIMESTAMPS"], ["3"])
    told = words(client.get_trace_settings(headers=headers(KEY), **as_json))
    assert list(told["trace_rate"]) == ["0"], "of the others nothing is traced"

    def until_traced() -> bool:
        ask()
        return len(traced) == 3

    eventually(until_traced, "three are traced, once all processes know")
    for _ in range(20):
        ask()
    assert words(client.get_trace_settings("sums", headers=headers(KEY), **as_json))["trace_count"] in ("0", ["0"])
    assert list(change("sums", trace_level=None, trace_rate=None, trace_count=None)["trace_rate"]) == ["0"]
    assert change("sums", trace_level=["OFF"])["trace_level"] == ["OFF"]
    for wrong, says in (
        (lambda: change(None, OTHER, trace_level=["TIMESTAMPS"]), "not for all endpoints of namespace default"),
        (lambda: change("sums", trace_level=["TENSORS"]), "trace_level: expected OFF or TIMESTAMPS"),
        (lambda: change("sums", trace_file="x"), "trace_file: expected one of"),
        (lambda: change("none", trace_rate="1"), "none"),
    ):
        with pytest.raises(InferenceServerException, match=says):
            wrong()
    assert change(None, trace_level=["TIMESTAMPS"])["trace_level"] == ["TIMESTAMPS"]
    client.close()
    assert traced == ["infer sums"] * 3

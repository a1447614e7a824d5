"""Foreign clients against a real gateway and worker: Triton's library, KServe's, and the examples of the documentation."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from mizzen.serving.gateway.directory import Endpoint, Version
from mizzen.serving.tensors import Signature, TensorSpec

from .builders import summing_model, text_model
from .played import api_key
from .stack import Stack, eventually

ROOT = Path(__file__).parents[2]
KEY = "a-key-of-tests"
HEADERS = {"authorization": f"Bearer {KEY}"}
"""To be copied: Triton's library writes into what it is given."""
BY_COLUMN = Signature(
    (TensorSpec("input", "FP32", (-1, 2)),), (TensorSpec("sum", "FP32", (-1, 1)),), ("radius", "texture")
)
KSERVE = os.environ.get("MIZZEN_KSERVE_PYTHON", str(ROOT / ".peers" / "kserve" / "bin" / "python"))


@pytest.fixture(scope="module")
def stack():
    with Stack() as made:
        digest = made.put(summing_model())
        version = Version("tumour", 1, digest, 100, BY_COLUMN)
        made.endpoints["tumour"] = Endpoint("default", "tumour", versions=(version,))
        made.worker(digest, "tumour")
        text = made.put(text_model())
        made.serve(text, "text")
        made.worker(text, "text")
        made.keys["k"] = api_key(hashlib.sha256(KEY.encode()).hexdigest(), endpoints=["tumour"])
        made.tell()
        made.start_gateway()
        with made.client() as client:
            for name in ("tumour", "text"):
                path = f"/v2/models/{name}/ready"
                eventually(
                    lambda path=path: client.ask("GET", path, headers=dict(HEADERS)).status == 200, f"{name} is ready"
                )
        yield made


@pytest.fixture(params=["http", "grpc"])
def triton(stack, request):
    """Triton's library for one of the protocols, and a client of it."""
    module = getattr(tritonclient, request.param)
    address = f"127.0.0.1:{stack.port}" if request.param == "http" else stack.grpc
    client = module.InferenceServerClient(address)
    yield module, client
    client.close()


def tensor(module, name: str, datatype: str, array: np.ndarray, **more):
    made = module.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, **more)
    return made


ROWS = np.array([[1.5, 2.0], [3.0, 4.5]], np.float32)


def test_tritons_client_asks_and_is_answered(triton):
    module, client = triton
    answer = client.infer(
        "tumour", [tensor(module, "input", "FP32", ROWS)], model_version="1", request_id="7", priority=1,
        timeout=5_000_000, outputs=[module.InferRequestedOutput("sum")], headers=dict(HEADERS),
    )  # fmt: skip
    assert answer.as_numpy("sum").tolist() == [[3.5], [7.5]]
    response = answer.get_response()
    assert (response["id"] if isinstance(response, dict) else response.id) == "7"


def test_tritons_client_sends_and_gets_strings_and_several_tensors(triton):
    module, client = triton
    words = np.array([[b"a"], ["é".encode()]], dtype=np.object_)
    numbers = np.arange(6, dtype=np.float64).reshape(2, 3)
    answer = client.infer("text", [tensor(module, "word", "BYTES", words), tensor(module, "x", "FP64", numbers)])
    assert answer.as_numpy("echo").ravel().tolist() == [b"a", "é".encode()]
    assert answer.as_numpy("total").tolist() == [[3.0], [12.0]]


def test_bytes_that_are_no_text_are_the_clients_mistake(triton):
    """To a model of texts; the others of the batch are answered."""
    module, client = triton
    words = np.array([[b"\xff"]], dtype=np.object_)
    numbers = np.zeros((1, 3))
    with pytest.raises(InferenceServerException, match="expected UTF-8 strings") as caught:
        client.infer("text", [tensor(module, "word", "BYTES", words), tensor(module, "x", "FP64", numbers)])
    assert caught.value.status() in {"400", "StatusCode.INVALID_ARGUMENT"}


def test_tritons_client_is_told_of_server_and_models(triton):
    module, client = triton
    as_json = {"as_json": True} if module is tritonclient.grpc else {}
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tumour", "1", headers=dict(HEADERS))
    assert client.get_server_metadata(**as_json)["name"] == "mizzen"
    metadata = client.get_model_metadata("tumour", headers=dict(HEADERS), **as_json)
    assert [(one["name"], one["datatype"]) for one in metadata["inputs"]] == [("input", "FP32")]
    config = client.get_model_config("tumour", headers=dict(HEADERS), **as_json)
    config = config.get("config", config)
    assert (config["max_batch_size"], config["input"][0]["data_type"]) == (256, "TYPE_FP32")
    index = client.get_model_repository_index(headers=dict(HEADERS), **as_json)
    index = index["models"] if isinstance(index, dict) else index
    assert {(one["name"], one["version"], one["state"]) for one in index} == {
        ("tumour", "1", "READY"), ("text", "1", "READY"),
    }  # fmt: skip
    before = counted(client, as_json)
    client.infer("tumour", [tensor(module, "input", "FP32", ROWS)], headers=dict(HEADERS))
    assert counted(client, as_json) == before + 2
    settings = client.get_trace_settings("tumour", headers=dict(HEADERS), **as_json)
    assert "OFF" in str(settings)


def counted(client, as_json: dict) -> int:
    (stats,) = client.get_inference_statistics("tumour", headers=dict(HEADERS), **as_json)["model_stats"]
    return int(stats.get("inference_count", 0))


def test_tritons_client_is_told_what_is_wrong(triton):
    module, client = triton
    for asked, says in (
        (lambda: client.infer("tumour", [tensor(module, "input", "FP32", ROWS)]), "expected an API key"),
        (lambda: client.infer("text", [tensor(module, "input", "FP32", ROWS)]), "inputs[0].name: expected one of"),
        (lambda: client.load_model("tumour", headers=dict(HEADERS)), ""),
        (lambda: client.update_trace_settings(settings={"trace_rate": "1"}), "expected an API key"),
    ):
        with pytest.raises(InferenceServerException) as caught:
            asked()
        assert says in str(caught.value)


def test_tritons_client_asks_many_at_once(triton):
    module, client = triton
    inputs = [tensor(module, "input", "FP32", ROWS)]
    if module is tritonclient.http:
        pending = [client.async_infer("tumour", inputs, headers=dict(HEADERS)) for _ in range(50)]
        answers = [one.get_result() for one in pending]
    else:
        answers = []
        pending = [
            client.async_infer("tumour", inputs, lambda result, error: answers.append(result), headers=dict(HEADERS))
            for _ in range(50)
        ]
        eventually(lambda: len(answers) == 50, "all are answered")
    assert all(one.as_numpy("sum").tolist() == [[3.5], [7.5]] for one in answers)


def test_tritons_http_client_has_all_forms_of_binary(stack):
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{stack.port}") as client:
        for sent in (True, False):
            for got in (True, False):
                answer = client.infer(
                    "tumour", [tensor(tritonclient.http, "input", "FP32", ROWS, binary_data=sent)], headers=dict(HEADERS),
                    outputs=[tritonclient.http.InferRequestedOutput("sum", binary_data=got)],
                )  # fmt: skip
                assert answer.as_numpy("sum").tolist() == [[3.5], [7.5]]


def test_tritons_grpc_client_streams(stack):
    answers = []
    with tritonclient.grpc.InferenceServerClient(stack.grpc) as client:
        client.start_stream(lambda result, error: answers.append((result, error)), headers=dict(HEADERS))
        for number in range(50):
            rows = np.full((1, 2), number, np.float32)
            client.async_stream_infer(
                "tumour", [tensor(tritonclient.grpc, "input", "FP32", rows)], request_id=str(number)
            )
        client.stop_stream()
    assert [error for _, error in answers if error is not None] == []
    found = {result.get_response().id: float(result.as_numpy("sum")[0, 0]) for result, _ in answers}
    assert found == {str(number): 2.0 * number for number in range(50)}


@pytest.mark.skipif(not Path(KSERVE).exists(), reason="KServe's client is not there: make peers")
def test_kserves_client_passes_its_session(stack):
    program = Path(__file__).parent / "kserve_session.py"
    done = subprocess.run(
        [KSERVE, str(program), f"http://127.0.0.1:{stack.port}", stack.grpc, KEY],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "passed\n"), done.stderr[-2000:]


# The documentation


def _examples() -> list[tuple[str, str, str, str]]:
    """(language, code, language of what it prints, what it prints) of docs/inference.md."""
    text = (ROOT / "docs" / "inference.md").read_text()
    return re.findall(r"```(bash|python)\n(.*?)```\n\n```(json|text)\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("number", range(len(_examples())))
def test_the_documentations_examples_do_what_they_say(stack, tmp_path, number):
    language, code, form, expected = _examples()[number]
    command = ["bash", "-euo", "pipefail", "-c", code] if language == "bash" else [sys.executable, "-c", code]
    environment = {**os.environ, "URL": f"http://127.0.0.1:{stack.port}", "KEY": KEY, "GRPC": stack.grpc}
    done = subprocess.run(command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if form == "text":
        assert done.stdout == expected
        return
    found, wanted = json.loads(done.stdout), json.loads(expected)
    if "models" in found:  # the test's own endpoint beside the documentation's
        found["models"] = [one for one in found["models"] if one["name"] == "tumour"]
    assert rounded(found) == wanted


def rounded(value):
    """As the documentation writes numbers."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value

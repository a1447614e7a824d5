"""How a system is asked, and how its answer is read: one value for each form of request."""

import json
import struct
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
import numpy as np

from benchmarks.serving.models import MODELS, Model
from mizzen.serving.oip.messages import INFERENCE, message

INFER = f"/{INFERENCE}/ModelInfer"
PATIENCE_S = 30.0
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Ask:
    """One request, as bytes, and how to find the probabilities in its answer."""

    protocol: str
    """`json`, `binary` or `grpc`."""
    model: str
    path: str
    body: bytes
    read: Callable[[bytes, dict[str, str]], list[float]]
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def http_bytes(self) -> bytes:
        """The request as it goes over a connection."""
        named = {"Host": "bench", "Content-Length": str(len(self.body)), **self.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        return f"POST {self.path} HTTP/1.1\r\n{head}\r\n".encode() + self.body

    def with_headers(self, more: dict[str, str]) -> "Ask":
        return Ask(self.protocol, self.model, self.path, self.body, self.read, {**self.headers, **more})


JSON = {"Content-Type": "application/json"}


def oip_json(model: Model, **parameters: object) -> Ask:
    """The Open Inference Protocol's JSON."""
    document = {"inputs": [_tensor(model, data=_data(model))], **({"parameters": parameters} if parameters else {})}
    return Ask("json", model.name, _oip_path(model), json.dumps(document).encode(), _read_oip_json, JSON)


def oip_binary(model: Model) -> Ask:
    """The protocol's binary tensors, there and back."""
    data = model.question.astype("<f4").tobytes()
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in ("label", "probabilities")]
    document = {"inputs": [_tensor(model, parameters={"binary_data_size": len(data)})], "outputs": outputs}
    head = json.dumps(document).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Ask("binary", model.name, _oip_path(model), head + data, _read_oip_binary, headers)


def oip_grpc(model: Model) -> Ask:
    """The protocol's gRPC with raw contents."""
    request = message("ModelInferRequest")(
        model_name=model.name, raw_input_contents=[model.question.astype("<f4").tobytes()]
    )
    request.inputs.add(name="X", datatype="FP32", shape=[model.rows, model.columns])
    return Ask("grpc", model.name, INFER, request.SerializeToString(), _read_grpc)


def rows_json(model: Model) -> Ask:
    """`{"rows": [[...]]}`, for those with a JSON of their own."""
    body = json.dumps({"rows": [[float(text) for text in row] for row in _texts(model)]}).encode()
    return Ask("json", model.name, f"/{model.name}", body, _read_rows, JSON)


def raw_bytes(model: Model, path: str) -> Ask:
    """Rows as they lie in memory, for those without a protocol for tensors."""
    body = model.question.astype("<f4").tobytes()
    return Ask("binary", model.name, path, body, _read_raw, {"Content-Type": "application/octet-stream"})


def _oip_path(model: Model) -> str:
    return f"/v2/models/{model.name}/infer"


def _texts(model: Model) -> list[list[str]]:
    return [[f"{value:.1f}" for value in row] for row in model.question]


def _data(model: Model) -> list[float]:
    return [float(text) for row in _texts(model) for text in row]


def _tensor(model: Model, **more: object) -> dict[str, object]:
    return {"name": "X", "shape": [model.rows, model.columns], "datatype": "FP32", **more}


def _read_oip_json(body: bytes, _headers: dict[str, str]) -> list[float]:
    outputs = {one["name"]: one["data"] for one in json.loads(body)["outputs"]}
    return list(np.ravel(outputs["probabilities"]))


def _read_oip_binary(body: bytes, headers: dict[str, str]) -> list[float]:
    size = int(headers["inference-header-content-length"])
    position = size
    for output in json.loads(body[:size])["outputs"]:
        length = output["parameters"]["binary_data_size"]
        if output["name"] == "probabilities":
            return list(np.frombuffer(body[position : position + length], "<f4"))
        position += length
    raise ValueError("no probabilities in the answer")


def _read_grpc(body: bytes, _headers: dict[str, str]) -> list[float]:
    answer = message("ModelInferResponse").FromString(body)
    for number, output in enumerate(answer.outputs):
        if output.name == "probabilities":
            if answer.raw_output_contents:
                return list(np.frombuffer(answer.raw_output_contents[number], "<f4"))
            return list(output.contents.fp32_contents)
    raise ValueError("no probabilities in the answer")


def _read_rows(body: bytes, _headers: dict[str, str]) -> list[float]:
    found = json.loads(body)
    return list(np.ravel(found["probabilities"] if isinstance(found, dict) else found))


def _read_raw(body: bytes, _headers: dict[str, str]) -> list[float]:
    return list(np.frombuffer(body, "<f4"))


def answer_of(ask: Ask, port: int, grpc_port: int) -> tuple[bytes, dict[str, str]]:
    """What the system answers, and its headers. Raises `OSError` or `grpc.RpcError`."""
    if ask.protocol == "grpc":
        with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            metadata = tuple((name.lower(), value) for name, value in ask.headers.items())
            call = channel.unary_unary(ask.path)
            return call(ask.body, timeout=PATIENCE_S, metadata=metadata), {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{ask.path}", ask.body, ask.headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return answer.read(), {name.lower(): value for name, value in answer.headers.items()}


def check(ask: Ask, port: int, grpc_port: int, expected: dict[str, np.ndarray]) -> bytes:
    """The answer, if it is right. Raises `ValueError` where it is not, and as `answer_of`."""
    body, headers = answer_of(ask, port, grpc_port)
    found = np.array(ask.read(body, headers))
    wanted = expected[ask.model].ravel()
    if found.shape != wanted.shape or not np.allclose(found, wanted, atol=TOLERANCE):
        raise ValueError(f"{ask.protocol} {ask.model}: expected {wanted[:4]}..., got {found[:4]}...")
    return body


def framed(data: bytes) -> bytes:
    """A gRPC message as it stands in DATA frames."""
    return struct.pack(">BI", 0, len(data)) + data


__all__ = ["MODELS", "Ask", "check", "framed", "oip_binary", "oip_grpc", "oip_json", "raw_bytes", "rows_json"]

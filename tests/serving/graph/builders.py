"""Graphs, and a gateway whose workers are played by functions of numpy arrays."""

import asyncio
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tests.serving.builders import signature, spec
from tests.serving.played import Call, Reply

from mizzen.kinds.build import Signature as DeclaredSignature
from mizzen.kinds.graph import Graph
from mizzen.policy.queue import Batch
from mizzen.serving.frames import (
    PROTOCOL_VERSION,
    ErrorCode,
    Failure,
    Frame,
    Hello,
    Result,
    Run,
    TensorHead,
    write_frame,
)
from mizzen.serving.gateway.directory import Endpoint, GraphPlan, UnixAddress, Version, Worker
from mizzen.serving.gateway.gateway import Gateway
from mizzen.serving.gateway.graph.arrays import tensor_of, values_of
from mizzen.serving.gateway.link import Owner
from mizzen.serving.tensors import Buffer, Signature, Tensor

Function = Callable[..., Any]
_versions = itertools.count(1)


class Played:
    """A model: what it takes and gives, and what it computes: inputs by name to outputs by name, or an array for all."""

    def __init__(self, takes: Signature, function: Function) -> None:
        self.signature = takes
        self.function = function
        self.number = next(_versions)
        self.digest = f"sha256:{self.number:016x}{0:048x}"
        self.rows = 0
        """Rows that it has computed."""
        self.batches = 0

    @property
    def version(self) -> Version:
        return Version("m", self.number, self.digest, 100, self.signature)


def column(name: str = "x", datatype: str = "FP32", columns: int = 1):
    return spec(name, datatype, (-1, columns))


def played(function: Function, *, takes=("x",), gives=("y",), datatype: str = "FP32", columns: int = 1) -> Played:
    inputs = [column(name, datatype, columns) if isinstance(name, str) else name for name in takes]
    outputs = [column(name, datatype, columns) if isinstance(name, str) else name for name in gives]
    return Played(signature(*inputs, outputs=outputs), function)


def graph(**nodes: Any) -> Graph:
    return Graph.model_validate({"nodes": [{"name": name, **body} for name, body in nodes.items()]})


def declared(takes: Signature) -> DeclaredSignature:
    def tensors(specs):
        return [{"name": s.name, "datatype": s.datatype, "shape": list(s.shape)} for s in specs]

    return DeclaredSignature.model_validate({"inputs": tensors(takes.inputs), "outputs": tensors(takes.outputs)})


class GraphLink:
    """A worker's link without a socket. What it is given it computes when the loop comes to it, or is told (`hold`)."""

    def __init__(self, described: Worker, owner: Owner, stage: "GraphStage") -> None:
        self.worker, self.hello, self.draining = described, None, False
        self.cancelled: list[Batch] = []
        self.waiting: list[tuple[Batch, dict[str, np.ndarray]]] = []
        self.hold = False
        self._owner, self._model = owner, stage.models[described.digest_prefix]
        stage.links.append(self)
        asyncio.get_running_loop().call_soon(self.connect)

    def connect(self) -> None:
        model = self._model
        self.hello = Hello(PROTOCOL_VERSION, "pod", "m", model.number, model.digest, model.signature, 1)
        self._owner.worker_joined(self, self.hello)

    def run(self, batch: Batch, heads: tuple[TensorHead, ...], data: list[Buffer]) -> None:
        write_frame(Run(1, heads), data)
        raw, inputs = b"".join(bytes(part) for part in data), {}
        for head in heads:
            inputs[head.name] = values_of(Tensor(head.name, head.datatype, head.shape, raw[: head.size]))
            raw = raw[head.size :]
        self.waiting.append((batch, inputs))
        if not self.hold:
            asyncio.get_running_loop().call_soon(self.answer)

    def answer(self) -> None:
        batch, inputs = self.waiting.pop(0)
        model = self._model
        model.rows += batch.rows
        model.batches += 1
        try:
            found = model.function(**inputs)
        except ValueError as error:
            self._owner.batch_failed(self, batch, Failure(1, ErrorCode.FAILED, str(error), 1))
            return
        outputs = found if isinstance(found, dict) else {s.name: found for s in model.signature.outputs}
        tensors = [tensor_of(s.name, s.datatype, np.asarray(outputs[s.name])) for s in model.signature.outputs]
        result = Result(1, 0.001, 0.0, 1, ())
        self._owner.batch_answered(self, batch, Frame(result, tensors), result)

    def cancel(self, batch: Batch) -> None:
        self.cancelled.append(batch)

    def retire(self) -> None:
        self.draining = True
        if self.hello is not None:
            self._owner.worker_draining(self)


class GraphStage:
    """A gateway that serves graphs."""

    def __init__(self, **more: Any) -> None:
        self.gateway = Gateway(asyncio.get_running_loop().time, connect=lambda w, o: GraphLink(w, o, self), **more)
        self.links: list[GraphLink] = []
        self.models: dict[str, Played] = {}

    def serve(
        self, shape: Graph, name: str = "g", *, workers: bool = True, models: dict[str, Played], **more: Any
    ) -> None:
        """Declares the graph with these models, by node, each with a worker."""
        versions = {node: (model.version,) for node, model in models.items()}
        plan = GraphPlan(shape.to_wire(), versions)
        self.gateway.endpoint_changed(Endpoint("default", name, anonymous=True, graph=plan, **more))
        if workers:
            self.start(name, *models.values())

    def serve_model(self, model: Played, name: str, **more: Any) -> None:
        self.gateway.endpoint_changed(Endpoint("default", name, anonymous=True, versions=(model.version,), **more))
        self.start(name, model)

    def start(self, name: str, *models: Played) -> None:
        for model in {model.number: model for model in models}.values():
            prefix = model.digest.removeprefix("sha256:")[:16]
            described = Worker(f"{name}-{model.number}", "default", name, prefix, UnixAddress(Path("/nowhere")))
            self.models[described.digest_prefix] = model
            self.gateway.worker_changed(described)

    def link(self, model: Played) -> GraphLink:
        return next(link for link in self.links if link._model is model)

    def ask(self, name: str = "g", outputs: list[str] | None = None, **values: Any) -> "Call":
        """A request with these inputs: an array each, or (datatype, array)."""
        headers = {
            key: values.pop(key) for key in list(values) if key in {"request_timeout_ms", "mizzen_unit", "x_api_key"}
        }
        inputs = []
        for key, value in values.items():
            datatype, array = value if isinstance(value, tuple) else ("FP32", value)
            array = np.asarray(array)
            array = array.reshape(-1, 1) if array.ndim < 2 else array
            inputs.append({"name": key, "shape": array.shape, "datatype": datatype, "data": array.ravel().tolist()})
        body: dict[str, Any] = {"inputs": inputs}
        if outputs is not None:
            body["outputs"] = [{"name": output} for output in outputs]
        return Call(self, "POST", f"/v2/models/{name}/infer", json.dumps(body).encode(), headers)


async def reply_of(call: Call) -> Reply:
    """Once it is answered."""
    for _ in range(200):
        if call.reply.answered:
            return call.reply
        await asyncio.sleep(0)
    raise AssertionError("not answered")


async def outputs_of(call: Call) -> dict[str, list]:
    reply = await reply_of(call)
    assert reply.status == 200, reply.answers
    return {output["name"]: output["data"] for output in reply.json["outputs"]}

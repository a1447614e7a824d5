"""KServe's Python server as its documentation has it for a custom predictor: HTTP and gRPC, a process for each core."""

import logging
import os
import sys

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from model_session import NAMES
from model_session import Model as Session


class Predictor(Model):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.load()

    def __getstate__(self) -> dict:
        """As another process gets it, without the session."""
        return {**self.__dict__, "inner": None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self.load()

    def load(self) -> bool:
        self.inner = Session(self.name)
        self.ready = True
        return True

    async def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:  # noqa: ARG002
        label, probabilities = self.inner.run(payload.inputs[0].as_numpy())
        outputs = [
            InferOutput("label", list(label.shape), "INT64"),
            InferOutput("probabilities", list(probabilities.shape), "FP32"),
        ]
        for output, values in zip(outputs, (label, probabilities), strict=True):
            output.set_data_from_numpy(values, binary_data=payload.from_grpc or payload.use_binary_outputs)
        return InferResponse(
            payload.id or "0", self.name, outputs, from_grpc=payload.from_grpc,
            use_binary_outputs=payload.use_binary_outputs, requested_outputs=payload.request_outputs,
        )  # fmt: skip


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # each request is told otherwise
    server = ModelServer(
        http_port=int(os.environ["PORT"]), grpc_port=int(os.environ["GRPC_PORT"]), workers=os.cpu_count() or 1, enable_grpc=True,
        enable_latency_logging=False, access_log_format=None,
    )  # fmt: skip
    server.start([Predictor(name) for name in NAMES])
    sys.exit(0)

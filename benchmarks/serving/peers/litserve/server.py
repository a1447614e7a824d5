"""LitServe as its documentation has it: API processes and model workers for each core, the fast queue.

Batches gain nothing here: what costs is the way between the processes, which each request goes alone.
"""

import os

import litserve
import numpy as np
from model_session import Model


class Api(litserve.LitAPI):
    """Rows as JSON."""

    def __init__(self, name: str) -> None:
        super().__init__(api_path=f"/{name}")
        self.model_name = name

    def setup(self, device: str) -> None:  # noqa: ARG002 - a processor is all there is
        self.model = Model(self.model_name)

    def decode_request(self, request: dict) -> np.ndarray:
        return np.array(request["rows"], np.float32)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.model.run(rows)[1]

    def encode_response(self, output: np.ndarray) -> dict:
        return {"probabilities": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(
        [Api("small"), Api("heavy")],
        accelerator="cpu",
        workers_per_device=os.cpu_count() or 1,
        fast_queue=True,
        disable_openapi_url=True,
        timeout=30,
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=os.cpu_count() or 1,
        log_level="error",
        generate_client_file=False,
        access_log=False,
    )

"""Ray Serve as its documentation has it for throughput: a replica for each core, no access log, the documented mode
RAY_SERVE_THROUGHPUT_OPTIMIZED. Batches gain nothing here.
"""

import os
import signal

import numpy as np
import ray
from model_session import Model
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig
from starlette.requests import Request

CORES = os.cpu_count() or 1


@serve.deployment(num_replicas=CORES, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.1})
class Replica:
    """Rows as JSON."""

    def __init__(self, name: str) -> None:
        self.model = Model(name)

    async def __call__(self, request: Request) -> dict:
        rows = np.array((await request.json())["rows"], np.float32)
        return {"probabilities": self.model.run(rows)[1].tolist()}


if __name__ == "__main__":
    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False, _temp_dir=os.environ["FOLDER"])
    serve.start(
        http_options=HTTPOptions(host="127.0.0.1", port=int(os.environ["PORT"]), location="HeadOnly"),
        logging_config=LoggingConfig(enable_access_log=False, log_level="ERROR"),
    )
    for name in ("small", "heavy"):
        serve.run(Replica.bind(name), name=name, route_prefix=f"/{name}")
    print("serving", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()

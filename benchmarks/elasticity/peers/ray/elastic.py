"""Ray Serve with one replica of the small model. A line `ups N` on standard input: from one replica to two and back, N
times; `zeros N`: from none to the first answer, N times. Each is answered by a line of JSON, the seconds each took. What
has come true is looked for every 10 ms, where `serve.run` would look once a second.
"""

import json
import os
import sys
import time
import urllib.request

import numpy as np
import ray
from model_session import Model
from ray import serve
from ray.serve.api import _run
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig
from starlette.requests import Request

LOOK_S = 0.01
ZERO = {
    "min_replicas": 0, "initial_replicas": 1, "max_replicas": 1, "downscale_delay_s": 1, "upscale_delay_s": 0,
    "metrics_interval_s": 0.1, "look_back_period_s": 1,
}  # fmt: skip
URL = f"http://127.0.0.1:{os.environ['PORT']}/small"


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.1})
class Replica:
    """Rows as JSON."""

    def __init__(self) -> None:
        self.model = Model("small")

    async def __call__(self, request: Request) -> dict:
        rows = np.array((await request.json())["rows"], np.float32)
        return {"probabilities": self.model.run(rows)[1].tolist()}


def running() -> int:
    states = [one for app in serve.status().applications.values() for one in app.deployments.values()]
    return sum(one.replica_states.get("RUNNING", 0) for one in states)


def total() -> int:
    states = [one for app in serve.status().applications.values() for one in app.deployments.values()]
    return sum(count for one in states for count in one.replica_states.values())


def deploy(**options: object) -> None:
    _run(Replica.options(**options).bind(), _blocking=False, name="small", route_prefix="/small")


def up() -> float:
    began = time.perf_counter()
    deploy(num_replicas=2)
    while running() != 2:
        time.sleep(LOOK_S)
    seconds = time.perf_counter() - began
    deploy(num_replicas=1)
    while total() != 1:
        time.sleep(LOOK_S)
    return seconds


def zero() -> float:
    while total() != 0:
        time.sleep(LOOK_S)
    time.sleep(0.3)
    body = json.dumps({"rows": [[0.5] * 20]}).encode()
    began = time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(URL, body, {"Content-Type": "application/json"})) as answer:
        answer.read()
    return time.perf_counter() - began


if __name__ == "__main__":
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False, _temp_dir=os.environ["FOLDER"])
    serve.start(
        http_options=HTTPOptions(host="127.0.0.1", port=int(os.environ["PORT"]), location="HeadOnly"),
        logging_config=LoggingConfig(enable_access_log=False, log_level="ERROR"),
    )
    deploy(num_replicas=1)
    for line in sys.stdin:
        what, count = line.split()
        if what == "zeros":
            deploy(autoscaling_config=ZERO)
        print(json.dumps([up() if what == "ups" else zero() for _ in range(int(count))]), flush=True)
    serve.shutdown()
    ray.shutdown()

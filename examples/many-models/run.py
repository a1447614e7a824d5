"""A thousand endpoints on one machine, and traffic over fifty of them.

    mizzen up -d
    python examples/many-models/run.py                 # 1,000 endpoints; --endpoints 100 for a tenth of it
    mizzen top                                         # meanwhile, in another terminal

Each endpoint is brought up once, so that it is known to work, and gives its process back when it is idle. Then fifty of
them are asked, each by a caller of its own at random times, and the first request to each starts its worker. What is
printed was measured here; `--readme` writes it into the README as well.
"""

import argparse
import http.client
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
from onnx import TensorProto, helper, numpy_helper

import mizzen

MODELS = 10
AT_ONCE = 20
"""Endpoints that are brought up at the same time."""
PAUSE_S = 1.0
"""Between the requests of one caller, on average."""
ENDPOINT = """\
apiVersion: mizzen.dev/v1alpha1
kind: InferenceEndpoint
metadata: {{name: {name}}}
spec:
  model: "{model}:1"
  access: anonymous
  scaling: {{minReplicas: 0, maxReplicas: 1, scaleToZeroAfter: 5s, stableWindow: 6s}}
  worker: {{resources: {{cpu: 10m, memory: 256Mi}}}}
"""
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


def model_bytes(number: int) -> bytes:
    """A shop's own little model: two layers with weights of its own."""
    rng = np.random.default_rng(number)
    first, second = (rng.normal(size=shape).astype(np.float32) for shape in ((8, 16), (16, 1)))
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("MatMul", ["active", "second"], ["demand"]),
    ]
    graph = helper.make_graph(
        nodes, f"shop-{number}",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 8])],
        [helper.make_tensor_value_info("demand", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    encoded: bytes = model.SerializeToString()
    return encoded


def register_models(folder: Path) -> None:
    for number in range(MODELS):
        path = folder / f"shops-{number}.onnx"
        path.write_bytes(model_bytes(number))
        subprocess.run(["mizzen", "models", "register", f"shops-{number}", str(path)], check=True, capture_output=True)


def bring_up(client: mizzen.Client, names: list[str], folder: Path, say: Callable[[str], None]) -> float:
    """Declares the endpoints, a few at a time; returns the seconds until each has worked and is idle again."""
    began, waiting, started = time.perf_counter(), list(names), set[str]()
    while True:
        statuses = {one["metadata"]["name"]: one.get("status") or {} for one in client.list("ie")}
        busy = [name for name in started if not is_ready(statuses.get(name, {}))]
        resting = sum(is_idle(statuses.get(name, {})) for name in names)
        say(f"{len(started) - len(busy)} of {len(names)} endpoints have worked, {resting} are idle ")
        if resting == len(names):
            return time.perf_counter() - began
        batch, waiting = waiting[: max(0, AT_ONCE - len(busy))], waiting[max(0, AT_ONCE - len(busy)) :]
        if batch:
            manifest = folder / "endpoints.yaml"
            texts = [ENDPOINT.format(name=name, model=f"shops-{int(name[5:]) % MODELS}") for name in batch]
            manifest.write_text("---\n".join(texts))
            client.apply(manifest)
            started |= set(batch)
        time.sleep(0.5)


def is_ready(status: dict) -> bool:
    """Whether it serves; a version is served when it has been seen to work."""
    ready = next((one for one in status.get("conditions", []) if one["type"] == "Ready"), {})
    return bool(ready.get("status") == "True")


def is_idle(status: dict) -> bool:
    return is_ready(status) and not status.get("replicas") and not status.get("workers")


@dataclass
class Callers:
    """One caller for each busy endpoint."""

    url: str
    first_s: list[float] = field(default_factory=list)
    """Of each endpoint's first request, which starts its worker."""
    later_s: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def run(self, names: list[str], seconds: float) -> None:
        ends = time.perf_counter() + seconds
        threads = [threading.Thread(target=self._call, args=(name, ends)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _call(self, name: str, ends: float) -> None:
        rng, address = random.Random(name), urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=40)
        body = json.dumps({"inputs": [{"name": "x", "shape": [1, 8], "datatype": "FP32", "data": [1.0] * 8}]})
        times = self.first_s
        while True:
            time.sleep(rng.expovariate(1 / PAUSE_S))
            began = time.perf_counter()
            if began > ends:
                return
            connection.request("POST", f"/v2/models/{name}/infer", body)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != 200:
                self.failed.append(f"{name}: {answer.status} {said[:200]!r}")
            times.append(time.perf_counter() - began)
            times = self.later_s


def processes(home: Path) -> list[psutil.Process]:
    """All that work for this home, and what they started."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            ours = str(home) in " ".join(process.cmdline()) or str(home) in process.environ().values()
            if ours or process.ppid() in found:
                found[process.pid] = process
        except psutil.Error:
            continue
    return list(found.values())


def memory_mb(home: Path) -> float:
    """What they take together; pages that several share are counted once."""
    total = 0
    for process in processes(home):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 1e6


def busiest(count: int) -> str:
    """The top of `mizzen top`, which has the busiest first."""
    done = subprocess.run(["mizzen", "top", "--once", "--interval", "3"], check=True, capture_output=True, text=True)
    return "\n".join(done.stdout.splitlines()[: 1 + count])


def told(values: list[float]) -> str:
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]
    return f"{statistics.median(ordered):.3f} s, {p99:.3f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", type=int, default=1000)
    parser.add_argument("--busy", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--home", type=Path, default=Path(".mizzen"), help="of the `mizzen up` that runs")
    parser.add_argument("--readme", action="store_true", help="write the measurements into the README")
    given = parser.parse_args()
    home = given.home.resolve()
    names = [f"shop-{number:04d}" for number in range(given.endpoints)]
    with mizzen.Client() as client, tempfile.TemporaryDirectory() as folder:
        before_mb = memory_mb(home)
        register_models(Path(folder))
        seconds = bring_up(client, names, Path(folder), lambda text: print(f"\r{text}", end="", flush=True))
        print()
        idle_mb, url = memory_mb(home), client.get("ie", names[0])["status"]["url"]
    callers = Callers(url)
    busy = random.Random(0).sample(names, min(given.busy, len(names)))
    watching = threading.Timer(given.seconds / 2, lambda: shown.append((running(home), memory_mb(home), busiest(5))))
    shown: list[tuple[int, float, str]] = []
    watching.start()
    callers.run(busy, given.seconds)
    watching.join()
    workers, busy_mb, top = shown[0]
    lines = [
        "| | |", "|---|--:|",
        f"| endpoints registered, each seen to work | {len(names):,} in {seconds:.0f} s |",
        f"| memory of everything, before and with all of them idle | {before_mb:.0f} MB, {idle_mb:.0f} MB |",
        f"| asked at random times | {len(busy)} of them, {len(callers.first_s) + len(callers.later_s)} requests |",
        f"| requests that failed | {len(callers.failed)} |",
        f"| first answer of an idle endpoint, {len(busy)} starting at once: median and p99 | {told(callers.first_s)} |",
        f"| later answers, median and p99 | {told(callers.later_s)} |",
        f"| meanwhile: workers, memory of everything | {workers}, {busy_mb:.0f} MB |",
        "", "The busiest in `mizzen top` meanwhile:", "", "```", top, "```",
    ]  # fmt: skip
    print("\n".join(lines), *callers.failed[:5], sep="\n")
    if given.readme:
        write_readme("\n".join(lines))
    return 1 if callers.failed else 0


def running(home: Path) -> int:
    """How many workers run."""
    commands = [process.cmdline() for process in processes(home) if process.is_running()]
    return sum(words[:3] == ["python", "-m", "mizzen.serving.worker"] for words in commands)


def write_readme(measured: str) -> None:
    path = Path(__file__).with_name("README.md")
    head, _, rest = path.read_text().partition(BEGIN)
    path.write_text(f"{head}{BEGIN}\n{measured}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    sys.exit(main())

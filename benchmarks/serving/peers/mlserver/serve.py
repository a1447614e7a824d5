"""Starts MLServer as its documentation has it: a custom runtime in the server's process.

Adaptive batching costs the small model a third of its throughput here and four times its latency, so it is off.
"""

import json
import os
from pathlib import Path

from model_session import NAMES

SETTINGS = {
    "host": "127.0.0.1", "http_port": int(os.environ["PORT"]), "grpc_port": int(os.environ["GRPC_PORT"]),
    "parallel_workers": 0, "metrics_endpoint": None, "debug": False, "use_structured_logging": False,
}  # fmt: skip


def main() -> None:
    folder = Path(os.environ["FOLDER"])
    (folder / "settings.json").write_text(json.dumps(SETTINGS))
    for name in NAMES:
        place = folder / name
        place.mkdir()
        (place / "model-settings.json").write_text(json.dumps({"name": name, "implementation": "runtime.Runtime"}))
    os.execvp("mlserver", ["mlserver", "start", str(folder)])


if __name__ == "__main__":
    main()

"""Starts the `tritonserver` of nvidia-pytriton with its Python backend, as Triton's documentation has it: dynamic batching
without delay (for the model that gains nothing by it: of one), late requests rejected, an instance for each core.

The backend finds the stub for its Python beside itself, so the backend is copied with the stub that the package carries.
"""

import os
import shutil
import sys
from pathlib import Path

import model_session
import pytriton
from model_session import NAMES, ROWS_MAX, Model

CONFIG = """name: "{name}"
backend: "python"
max_batch_size: {rows}
input [{{ name: "X" data_type: TYPE_FP32 dims: [{columns}] }}]
output [
  {{ name: "label" data_type: TYPE_INT64 dims: [1] reshape {{ shape: [] }} }},
  {{ name: "probabilities" data_type: TYPE_FP32 dims: [2] }}
]
instance_group [{{ kind: KIND_CPU count: {instances} }}]
dynamic_batching {{
  default_queue_policy {{ timeout_action: REJECT default_timeout_microseconds: 30000000 allow_timeout_override: true }}
}}
"""


def main() -> None:
    folder = Path(os.environ["FOLDER"])
    package = Path(pytriton.__file__).parent
    server = package / "tritonserver"
    backends = folder / "backends"
    shutil.copytree(server / "backends", backends)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy2(server / "python_backend_stubs" / version / "triton_python_backend_stub", backends / "python")
    for name in NAMES:
        place = folder / "repository" / name
        (place / "1").mkdir(parents=True)
        for source in (Path(__file__).with_name("model.py"), Path(model_session.__file__)):
            shutil.copy2(source, place / "1")
        rows = 1 if name == "heavy" else ROWS_MAX
        config = CONFIG.format(name=name, rows=rows, columns=Model(name).columns, instances=os.cpu_count() or 1)
        (place / "config.pbtxt").write_text(config)
    os.environ["LD_LIBRARY_PATH"] = str(package.parent / "nvidia_pytriton.libs")
    binary = str(server / "bin" / "tritonserver")
    os.execv(
        binary,
        [binary, f"--model-repository={folder / 'repository'}", f"--backend-directory={backends}",
         "--http-address=127.0.0.1", f"--http-port={os.environ['PORT']}", "--grpc-address=127.0.0.1",
         f"--grpc-port={os.environ['GRPC_PORT']}", "--allow-metrics=false", "--log-info=false",
         f"--backend-config=python,shm-region-prefix-name=bench{os.getpid()}"],
    )  # fmt: skip


if __name__ == "__main__":
    main()

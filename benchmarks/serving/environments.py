"""A virtual environment for each peer, at `.peers/NAME`, made once for each state of its requirements."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PEERS = HERE.parents[1] / ".peers"


def environment(name: str) -> Path:
    """The folder of the peer's environment, complete. Raises `subprocess.CalledProcessError`."""
    folder, wanted = PEERS / name, HERE / "peers" / name / "requirements.txt"
    mark = folder / ".installed"
    if mark.exists() and mark.read_text() == wanted.read_text():
        return folder
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True, text=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "-r", str(wanted)]
    subprocess.run(install, check=True, capture_output=True, text=True)
    mark.write_text(wanted.read_text())
    return folder


def versions(name: str) -> str:
    """What the peer's requirements pin first: itself, as `1.2.3`."""
    pins = dict(line.split("==") for line in (HERE / "peers" / name / "requirements.txt").read_text().split())
    return next(version for package, version in pins.items() if package.split("[")[0] not in {"numpy", "onnxruntime"})

"""A whole Mizzen in a home of its own, driven as a user does: by the command line, kubectl and HTTP."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import psutil

PROJECT = Path(__file__).parent / "project"
OTHER_CONTROL_PLANE = os.environ.get("MIZZEN_E2E_KUBECONFIG", "")
"""Where set, the tests run against that control plane: API server, controller manager and scheduler, no kubelet."""
MIZZEN = str(Path(sys.executable).with_name("mizzen"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Failed(AssertionError):
    """A command ended with another code than was expected; the message holds what it said."""


class Machine:
    """One home, up or down. `mizzen` and `kubectl` run a command in it and return what it printed."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="mz-"))
        self.port, self.inference_port = free_port(), free_port()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.mizzen("down")
        left = self.processes()
        shutil.rmtree(self.home, ignore_errors=True)
        assert left == [], f"left behind by `mizzen down`: {left}"

    @property
    def kubeconfig(self) -> Path:
        """Of the embedded control plane, or of the one that `MIZZEN_E2E_KUBECONFIG` names."""
        return Path(OTHER_CONTROL_PLANE) if OTHER_CONTROL_PLANE else self.home / "kubeconfig"

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key not in {"KUBECONFIG", "MIZZEN_API_KEY"}}
        return {**kept, "MIZZEN_HOME": str(self.home), "KUBECONFIG": str(self.kubeconfig)}

    @property
    def endpoints_url(self) -> str:
        return f"http://127.0.0.1:{self.inference_port}"

    def up(self) -> str:
        other = ["--kubeconfig", OTHER_CONTROL_PLANE] if OTHER_CONTROL_PLANE else []
        ports = ["--port", str(self.port), "--inference-port", str(self.inference_port),
                 "--grpc-port", str(free_port())]  # fmt: skip
        return self.mizzen("up", "-d", *ports, *other)

    def mizzen(self, *arguments: str, text: str | None = None, code: int | None = 0, timeout_s: float = 120) -> str:
        """Runs `mizzen …`; standard output, followed by standard error where the code is not 0."""
        return self._run([MIZZEN, *arguments], text, code, timeout_s)

    def kubectl(self, *arguments: str, text: str | None = None, code: int | None = 0, timeout_s: float = 120) -> str:
        return self._run(["kubectl", *arguments], text, code, timeout_s)

    def _run(self, command: list[str], text: str | None, code: int | None, timeout_s: float) -> str:
        done = subprocess.run(
            command, input=text, env=self.environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if code is not None and done.returncode != code:
            said = f"{done.stdout}{done.stderr}"
            raise Failed(f"{' '.join(command)}: expected code {code}, got {done.returncode}\n{said}")
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def get(self, *words: str) -> dict[str, Any]:
        """One object as JSON."""
        document: dict[str, Any] = json.loads(self.mizzen("get", *words, "-o", "json"))
        return document

    def condition(self, *words: str, type_: str = "Ready") -> dict[str, Any]:
        conditions = self.get(*words).get("status", {}).get("conditions", [])
        return next((condition for condition in conditions if condition["type"] == type_), {})

    def processes(self) -> list[str]:
        """Command lines of all processes that work for this home."""
        found = []
        for process in psutil.process_iter(["pid", "cmdline", "environ"]):
            environ = process.info["environ"] or {}
            command = " ".join(process.info["cmdline"] or [])
            ours = environ.get("MIZZEN_HOME") == str(self.home) or str(self.home) in command
            if ours and process.pid != os.getpid():
                found.append(f"{process.pid} {command}")
        return found

    def apply(self, text: str) -> str:
        """Applies manifests with the project's code."""
        return self.mizzen("apply", "-f", "-", "--code", str(PROJECT), text=text)

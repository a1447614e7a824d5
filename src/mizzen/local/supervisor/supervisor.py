"""One machine's process tree: a control process, a gateway and the prediction log's writer, kept alive from `up` to
`down`.

The control process holds the API server, the cluster's controllers, ours, and the node; with a kubeconfig of
another control plane it holds the controllers and the node alone. The gateway is a process tree of its own, so that
requests are answered while the control process is down. Pods belong to the node and survive it; `down` ends them last.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mizzen.local.node.orphans import kill_all
from mizzen.local.supervisor.home import Home, HomeLock, write_atomically
from mizzen.local.supervisor.processes import Part, PartState, SupervisedPart, end_recorded, forget_self, record_self

PARTS = ("gateway", "predictions", "control")
"""In the order in which they are ended: requests first, then what is logged of them."""
STATE_FILE = "supervisor.json"


@dataclass(frozen=True, slots=True)
class Settings:
    """What `mizzen up` was asked for."""

    home: Home
    host: str = "127.0.0.1"
    control_port: int = 7070
    inference_port: int = 7080
    gateway_processes: int = 1
    grpc_port: int | None = None
    """`None`: the one after `inference_port`."""
    kubeconfig: Path | None = None
    """Another control plane to work for; `None` means the embedded one."""

    @property
    def used_kubeconfig(self) -> Path:
        return self.kubeconfig or self.home.kubeconfig

    @property
    def control_url(self) -> str | None:
        """The embedded control plane's."""
        return f"https://{self.host}:{self.control_port}" if self.kubeconfig is None else None

    @property
    def gateway_url(self) -> str:
        return f"http://{self.host}:{self.inference_port}"

    @property
    def grpc_address(self) -> str:
        return f"{self.host}:{self.inference_port + 1 if self.grpc_port is None else self.grpc_port}"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where things are once they are up; kept in `run/supervisor.json` for `mizzen status`."""

    control_url: str | None
    gateway_url: str
    grpc_address: str
    kubeconfig: str
    store_url: str


def addresses_of(home: Home) -> Addresses | None:
    """Where things are, while they are up."""
    try:
        return Addresses(**json.loads((home.run / STATE_FILE).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


class Supervisor:
    """Runs the process tree of one home. Use `run`; it returns when it was told to stop and all is ended."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        environment = _environment(settings)
        self._parts = {
            part.name: SupervisedPart(part, settings.home, environment)
            for part in (_control(settings), _gateway(settings), _predictions(settings))
        }

    def statistics(self) -> list[PartState]:
        return [part.statistics() for part in self._parts.values()]

    async def run(self, stop: asyncio.Event, on_ready: Callable[[Addresses], Awaitable[None]]) -> None:
        """Brings everything up, calls `on_ready`, and keeps it up until `stop` is set.

        Raises `HomeError` where the home cannot be used, `StartError` where a part ends before it is ready; whatever
        was started is ended first.
        """
        home = self._settings.home
        home.prepare()
        lock = HomeLock(home)
        lock.acquire()
        keepers: list[asyncio.Task[None]] = []
        try:
            record_self(home, "supervisor")
            await asyncio.to_thread(end_recorded, home, PARTS, 10.0)
            if self._settings.control_url is not None:
                home.point_kubeconfig(self._settings.control_url)
            keepers += [asyncio.create_task(part.run()) for part in self._parts.values()]
            for name in reversed(PARTS):
                if await self._ready_or_stopped(self._parts[name], stop):
                    return
            addresses = self._addresses()
            write_atomically(home.run / STATE_FILE, asdict(addresses))
            await on_ready(addresses)
            await stop.wait()
        finally:
            for name in PARTS:
                await self._parts[name].stop()
            await asyncio.gather(*keepers)
            await asyncio.to_thread(kill_all, home.root)
            (home.run / STATE_FILE).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # something waits in it, for the next `up`
                home.rings.rmdir()
            forget_self(home, "supervisor")
            lock.release()

    @staticmethod
    async def _ready_or_stopped(part: SupervisedPart, stop: asyncio.Event) -> bool:
        """Waits until the part is ready; whether we were told to stop first."""
        ready, stopped = asyncio.ensure_future(part.ready()), asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((ready, stopped), return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()
            return not ready.done()
        finally:
            ready.cancel()
            stopped.cancel()

    def _addresses(self) -> Addresses:
        settings = self._settings
        return Addresses(
            control_url=settings.control_url,
            gateway_url=settings.gateway_url,
            grpc_address=settings.grpc_address,
            kubeconfig=str(settings.used_kubeconfig),
            store_url=settings.home.store_url,
        )


def down(home: Home, grace_s: float = 30.0) -> list[str]:
    """Ends whatever of this home still runs, the supervisor first and Pod processes last; the names of what ended."""
    ended = end_recorded(home, ["supervisor"], grace_s)
    ended += end_recorded(home, PARTS, grace_s)
    ended += kill_all(home.root) if home.root.exists() else []
    return ended


def _environment(settings: Settings) -> Mapping[str, str]:
    return {**os.environ, "MIZZEN_HOME": str(settings.home.root), "PYTHONUNBUFFERED": "1"}


def _control(settings: Settings) -> Part:
    command = [
        sys.executable, "-m", "mizzen.local.supervisor.control",
        "--host", settings.host,
        "--port", str(settings.control_port),
        "--gateway-url", settings.gateway_url,
    ]  # fmt: skip
    if settings.kubeconfig is not None:
        command += ["--kubeconfig", str(settings.kubeconfig)]
    return Part("control", command, grace_s=20.0)


def _gateway(settings: Settings) -> Part:
    command = [
        sys.executable, "-m", "mizzen.serving.gateway",
        "--kubeconfig", str(settings.used_kubeconfig),
        "--host", settings.host,
        "--port", str(settings.inference_port),
        "--grpc-port", settings.grpc_address.rpartition(":")[2],
        "--processes", str(settings.gateway_processes),
        "--report-to", f"unix:{settings.home.scaling_socket}",
        "--log-dir", str(settings.home.rings), "--online", settings.home.online_url,
    ]  # fmt: skip
    return Part("gateway", command)


def _predictions(settings: Settings) -> Part:
    command = [
        sys.executable, "-m", "mizzen.serving.predictionlog",
        "--kubeconfig", str(settings.used_kubeconfig),
        "--folder", str(settings.home.rings),
        "--spool", str(settings.home.predictions),
    ]  # fmt: skip
    return Part("predictions", command, grace_s=20.0)

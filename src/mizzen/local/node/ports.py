"""Ports for Pods that share one network: each named container port gets a free one of its own.

They are taken from below the range from which the kernel takes ports for outgoing connections, so that nobody else
binds one by chance between the choice and the Pod's own bind. A `hostPort` is taken as it stands.
"""

import random
import socket
from collections.abc import Container
from contextlib import closing
from pathlib import Path

from mizzen.local.node.podspec import PodSpec

_FIRST = 20000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LAST_ELSEWHERE = 32767
_TRIES = 1000


class NoFreePortError(Exception):
    """All ports that were tried are in use."""


def variable(name: str) -> str:
    """The environment variable in which a Pod finds a port: `MIZZEN_PORT_METRICS_HTTP` for `metrics-http`."""
    return f"MIZZEN_PORT_{name.upper().replace('-', '_')}"


def named_ports(pod: PodSpec) -> dict[str, int | None]:
    """The Pod's named ports, and the `hostPort` where one is asked for."""
    return {
        port["name"]: port.get("hostPort")
        for container in pod.containers
        for port in container.raw.get("ports") or ()
        if port.get("name")
    }


def bound_port(pod: PodSpec, chosen: dict[str, int], port: int | str) -> int:
    """The port really bound for a port name or `containerPort` number, as probes name them. Raises `KeyError`."""
    if isinstance(port, str) and not port.isdecimal():
        return chosen[port]
    number = int(port)
    for container in pod.containers:
        for entry in container.raw.get("ports") or ():
            if entry.get("containerPort") == number and entry.get("name") in chosen:
                return chosen[entry["name"]]
    return number


def choose(pod: PodSpec, address: str, taken: Container[int], rng: random.Random) -> dict[str, int]:
    """A port for each name. Raises `NoFreePortError`."""
    chosen: dict[str, int] = {}
    last = _last()
    for name, wanted in named_ports(pod).items():
        if wanted:
            if not is_free(address, wanted):
                raise NoFreePortError(f"hostPort {wanted} of port {name!r} is in use")
            chosen[name] = wanted
            continue
        for _ in range(_TRIES):
            port = rng.randint(_FIRST, last)
            if port not in taken and port not in chosen.values() and is_free(address, port):
                chosen[name] = port
                break
        else:
            raise NoFreePortError(f"no free port for {name!r} between {_FIRST} and {last}")
    return chosen


def _last() -> int:
    try:
        first_outgoing = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _LAST_ELSEWHERE
    return first_outgoing - 1 if first_outgoing > _FIRST + _TRIES else _LAST_ELSEWHERE


def is_free(address: str, port: int) -> bool:
    """Whether it can be bound, on this address and on all, even by who does not ask to reuse addresses: a port whose
    connections have just ended is not free for them.
    """
    for host in {address, "0.0.0.0"}:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with closing(socket.socket(family, socket.SOCK_STREAM)) as trial:
            try:
                trial.bind((host, port))
            except OSError:
                return False
    return True

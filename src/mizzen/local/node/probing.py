"""Trying a probe, or a life-cycle hook, once. What the results mean is `probes`' business."""

import asyncio
import contextlib
import os
import signal
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from mizzen.local.node import grpchealth
from mizzen.local.node.attempts import Launch
from mizzen.local.node.podspec import Json
from mizzen.version import __version__

_REDIRECTS_MAX = 10
_SAID_MAX = 1024
_USER_AGENT = f"kube-probe/mizzen-{__version__}"


@dataclass(frozen=True, slots=True)
class Target:
    """The container that is tried."""

    address: str
    port: Callable[[int | str], int]
    """The port really bound for a port's name or number; raises `KeyError`."""
    launch: Launch
    """How its command was started: an exec probe runs with the same environment, folder and bounds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one try."""

    ok: bool
    message: str = ""


async def attempt(action: Json, target: Target, timeout_s: float) -> Answer:
    """Tries once. Never raises: whatever goes wrong is the answer."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _attempt(action, target)
    except TimeoutError:
        return Answer(False, f"no answer within {timeout_s:g} s")
    except KeyError as error:
        return Answer(False, f"port {error} is not among the container's ports")
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        return Answer(False, str(error) or type(error).__name__)


async def _attempt(action: Json, target: Target) -> Answer:
    if "httpGet" in action:
        return await _http(action["httpGet"], target)
    if "tcpSocket" in action:
        wanted = action["tcpSocket"]
        host = wanted.get("host") or target.address
        _, writer = await asyncio.open_connection(host, target.port(wanted["port"]))
        writer.close()
        return Answer(True)
    if "exec" in action:
        return await _exec(tuple(action["exec"].get("command") or ()), target)
    if "sleep" in action:
        await asyncio.sleep(float(action["sleep"].get("seconds") or 0))
        return Answer(True)
    if "grpc" in action:
        wanted = action["grpc"]
        said = await grpchealth.check(target.address, target.port(wanted["port"]), str(wanted.get("service") or ""))
        return Answer(said == "SERVING", f"service unhealthy (responded with {said!r})")
    raise ValueError(f"a handler of type {next(iter(action), '?')} is not known to this node")


# -- HTTP: just enough of it, because a probe is tried often


async def _http(wanted: Json, target: Target) -> Answer:
    scheme = str(wanted.get("scheme") or "HTTP").lower()
    host = str(wanted.get("host") or target.address)
    headers = {header["name"]: str(header.get("value") or "") for header in wanted.get("httpHeaders") or ()}
    path = str(wanted.get("path") or "/")
    url = f"{scheme}://{host}:{target.port(wanted['port'])}{path if path.startswith('/') else '/' + path}"
    for _ in range(_REDIRECTS_MAX):
        status, location, body = await _get(url, headers)
        onward = urljoin(url, location) if location and 300 <= status < 400 else None
        if onward is None or urlsplit(onward).hostname != urlsplit(url).hostname:
            said = f": {body}" if body else ""
            return Answer(200 <= status < 400, f"HTTP probe failed with statuscode: {status}{said}")
        url = onward
    return Answer(False, f"more than {_REDIRECTS_MAX} redirects")


async def _get(url: str, headers: Mapping[str, str]) -> tuple[int, str, str]:
    """(status, Location, the beginning of the body)."""
    parts = urlsplit(url)
    tls = _unverified() if parts.scheme == "https" else None
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=tls)
    try:
        sent = {"Host": parts.netloc, "User-Agent": _USER_AGENT, "Accept": "*/*", "Connection": "close"} | dict(headers)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items()), "", ""]
        writer.write("\r\n".join(lines).encode("latin-1"))
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ", 2)[1])
        location = next((line[9:].strip() for line in head[1:] if line.lower().startswith("location:")), "")
        body = "" if 200 <= status < 400 else (await reader.read(_SAID_MAX)).decode(errors="replace").strip()
        return status, location, body
    except IndexError as error:
        raise ValueError("the answer is no HTTP") from error
    finally:
        writer.close()


def _unverified() -> ssl.SSLContext:
    """A probe asks whether the container answers, not who it is: as the kubelet does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# -- exec


async def _exec(command: tuple[str, ...], target: Target) -> Answer:
    process = await asyncio.create_subprocess_exec(
        *target.launch.beside(command),
        env=dict(target.launch.environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said = await _beginning(process.stdout)
        code = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
    return Answer(code == 0, f"command exited with code {code}" + (f": {said}" if said else ""))


async def _beginning(stream: asyncio.StreamReader | None) -> str:
    """The first of what a command says; the rest is read and dropped, so that it can end."""
    kept = b""
    while stream is not None and (chunk := await stream.read(4096)):
        kept = (kept + chunk)[:_SAID_MAX]
    return kept.decode(errors="replace").strip()

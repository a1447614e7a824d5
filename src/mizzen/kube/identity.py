"""Who we are to an API server: a token, a name and password, a token file that is renewed, a credential plugin.

A client certificate is part of the TLS context and not of this.
"""

import asyncio
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import msgspec
from lightkube.config.models import UserExec

from mizzen.kube.errors import ConfigurationError


class Identity(Protocol):
    """Says who we are, in the header `Authorization`."""

    async def authorization(self) -> str:
        """The header's value, for a request that is sent now."""
        ...

    async def refused(self, authorization: str) -> bool:
        """The server did not take it (401): whether there is another to be tried."""
        ...


class Fixed:
    """A value that does not change: a bearer token, or a name and password."""

    def __init__(self, authorization: str) -> None:
        self._authorization = authorization

    async def authorization(self) -> str:
        return self._authorization

    async def refused(self, authorization: str) -> bool:
        return authorization != self._authorization


class TokenFile:
    """A bearer token in a file that its owner renews: read again when the file changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_at: int | None = None
        self._authorization = ""

    async def authorization(self) -> str:
        try:
            changed_at = self.path.stat().st_mtime_ns
            if changed_at != self._read_at:
                self._authorization = f"Bearer {self.path.read_text().strip()}"
                self._read_at = changed_at
        except OSError as error:
            # Mid-rotation the file may be away for a moment; the last token is still good then.
            if self._read_at is None:
                raise ConfigurationError(f"{self.path}: cannot read the bearer token: {error}") from error
        return self._authorization

    async def refused(self, authorization: str) -> bool:
        self._read_at = None if self.path.is_file() else self._read_at
        return await self.authorization() != authorization


class Plugin:
    """A token from a credential plugin (`users[].user.exec`), asked for again when it expires or is refused."""

    _MARGIN = timedelta(seconds=30)

    def __init__(self, plugin: UserExec, folder: Path) -> None:
        self._plugin = plugin
        self._folder = folder
        self._lock = asyncio.Lock()
        self._authorization: str | None = None
        self._expires: datetime | None = None

    async def authorization(self) -> str:
        async with self._lock:
            if self._authorization is None or (self._expires and datetime.now(UTC) > self._expires - self._MARGIN):
                await self._ask()
            return self._authorization or ""

    async def refused(self, authorization: str) -> bool:
        async with self._lock:
            if self._authorization == authorization:
                await self._ask()
            return self._authorization != authorization

    async def _ask(self) -> None:
        plugin = self._plugin
        command = plugin.command
        if os.sep in command and not Path(command).is_absolute():
            command = str(self._folder / command)
        if shutil.which(command) is None:
            hint = f" ({plugin.installHint.strip()})" if plugin.installHint else ""
            raise ConfigurationError(f"credential plugin {plugin.command}: not found{hint}")
        info = {"apiVersion": plugin.apiVersion, "kind": "ExecCredential", "spec": {"interactive": False}}
        env = {
            **os.environ,
            **{variable.name: variable.value for variable in plugin.env or ()},
            "KUBERNETES_EXEC_INFO": msgspec.json.encode(info).decode(),
        }
        process = await asyncio.create_subprocess_exec(
            command, *(plugin.args or ()), env=env,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        if process.returncode != 0:
            said = err.decode(errors="replace").strip()[-500:]
            raise ConfigurationError(f"credential plugin {plugin.command}: exit status {process.returncode}: {said}")
        try:
            status: dict[str, Any] = msgspec.json.decode(out)["status"]
            self._authorization = f"Bearer {status['token']}"
            expires = status.get("expirationTimestamp")
            self._expires = datetime.fromisoformat(expires) if expires else None
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"credential plugin {plugin.command}: expected an ExecCredential with status.token, got {out[:200]!r}"
            ) from error

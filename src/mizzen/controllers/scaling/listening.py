"""Takes the reports of gateway processes: one connection for each, one line for each report.

Over a Unix socket whoever may open it is believed (it is in a folder of this user's alone). Over TCP the first line
must hold the token of the environment variable `MIZZEN_REPORT_TOKEN`, and without that variable nobody is believed. A
connection that breaks takes with it what that process said of the present; a line that is no report ends it.
"""

import asyncio
import contextlib
import hmac
import logging
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from mizzen.policy.scaling.reports import LINE_BYTES_MAX, Report, decode

log = logging.getLogger(__name__)
TOKEN_VARIABLE = "MIZZEN_REPORT_TOKEN"  # noqa: S105 - the variable's name
RETRY_S = 5.0

Source = int
"""One connection."""


class Listener:
    """`heard` is called for each report, `gone` when a source is."""

    def __init__(self, address: str, heard: Callable[[Source, Report], None], gone: Callable[[Source], None]) -> None:
        self._address = address
        self._heard = heard
        self._gone = gone
        self._sources = 0

    async def run(self) -> None:
        """Until cancelled. Where it cannot listen, it says so and tries again: requests are served all the same."""
        while True:
            try:
                server = await self._listen()
            except OSError as error:
                log.warning("cannot listen for reports at %s: %s", self._address, error)
                await asyncio.sleep(RETRY_S)
                continue
            async with server:
                await server.serve_forever()

    async def _listen(self) -> asyncio.Server:
        if self._address.startswith("unix:"):
            path = Path(self._address.removeprefix("unix:"))
            path.unlink(missing_ok=True)
            server = await asyncio.start_unix_server(self._serve, str(path), limit=LINE_BYTES_MAX)
            path.chmod(0o600)
            return server
        host, _, port = self._address.rpartition(":")
        return await asyncio.start_server(self._serve, host.strip("[]"), int(port), limit=LINE_BYTES_MAX)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._sources += 1
        source, known = self._sources, self._address.startswith("unix:")
        try:
            while line := await reader.readline():
                report = decode(line)
                if not known and not _is_known(report.token):
                    log.warning("reports from %s are refused: wrong token", writer.get_extra_info("peername"))
                    return
                known = True
                self._heard(source, report)
        except (msgspec.DecodeError, ValueError, ConnectionError) as error:
            log.warning("the reports of a gateway end: %s", error)
        finally:
            if known:
                self._gone(source)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _is_known(token: str) -> bool:
    expected = os.environ.get(TOKEN_VARIABLE, "")
    return bool(expected) and hmac.compare_digest(token.encode(), expected.encode())

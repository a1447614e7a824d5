"""The API server of one home, as a value in an asyncio process: `start`, `stop`, and nothing global.

server = ApiServer(home, port=0)
await server.start()        # kubeconfig is written, requests are answered
...
await server.stop()         # watches end, what was submitted is durable, the home is free
"""

import asyncio
import errno
import logging
import platform
import random
import socket
import ssl
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import uvicorn

from mizzen.local.apiserver.bootstrap import bootstrap
from mizzen.local.apiserver.catalog import Catalog
from mizzen.local.apiserver.custom_resources import CustomResources
from mizzen.local.apiserver.housekeeping import Housekeeping
from mizzen.local.apiserver.http.app import App
from mizzen.local.apiserver.http.dispatch import Dispatcher
from mizzen.local.apiserver.http.pages import Pages
from mizzen.local.apiserver.kubelet_certificate import client_context
from mizzen.local.apiserver.metrics import Metrics
from mizzen.local.apiserver.schema.builtin import BUILTIN_TYPES
from mizzen.local.apiserver.security import kubeconfig, pki, tokens
from mizzen.local.apiserver.security.admission import plugins
from mizzen.local.apiserver.security.authn import Authenticator
from mizzen.local.apiserver.security.jwt import KeyRing
from mizzen.local.apiserver.security.rbac import Authorizer
from mizzen.local.apiserver.security.service_account_tokens import ServiceAccountTokens
from mizzen.local.apiserver.store import Limits, Statistics, Store
from mizzen.local.apiserver.strategies.pod_classes import pod_classes
from mizzen.local.apiserver.types import Json
from mizzen.local.apiserver.verbs.context import Context, StoreReader
from mizzen.local.apiserver.verbs.logs import Logs
from mizzen.local.apiserver.verbs.reviews import Reviews
from mizzen.local.apiserver.verbs.subresources import handlers
from mizzen.version import __version__

logger = logging.getLogger(__name__)

KUBERNETES_VERSION = "1.34.0"
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_STOP_S = 5
_RENEW_S = 24 * 3600.0
_LIMITS = Limits()
_IDLE_CONNECTION_S = 180


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where time and chance come from."""

    now: Callable[[], datetime] = _now
    uid: Callable[[], str] = lambda: str(uuid.uuid4())
    name_suffix: Callable[[], str] = lambda: "".join(random.choices(_SUFFIX_LETTERS, k=5))  # noqa: S311 - not a secret


class _Parts(NamedTuple):
    """What `start` has put together and `stop` must end."""

    context: Context
    app: App
    custom: CustomResources
    logs: Logs


class ApiServer:
    """Serves the Kubernetes API from `home/server`. `port` 0 takes a free one; `port` says which after `start`."""

    housekeeping: Housekeeping

    def __init__(
        self,
        home: Path,
        host: str = "127.0.0.1",
        port: int = 7070,
        *,
        sources: Sources | None = None,
        limits: Limits = _LIMITS,
    ) -> None:
        self.home = Path(home)
        self.host = host
        self.port = port
        self._sources = sources or Sources()
        self._limits = limits
        self._store: Store | None = None
        self._running = AsyncExitStack()

    @property
    def url(self) -> str:
        return f"https://{_authority(self.host, self.port)}"

    @property
    def kubeconfig(self) -> Path:
        return self.home / "kubeconfig"

    async def start(self) -> None:
        """Raises OSError: the home is in use, too new or no home, or the port is taken. Nothing is left open then."""
        folder = self.home / "server"
        async with AsyncExitStack() as stack:
            store = Store(folder / "store.db", self._limits)
            stack.push_async_callback(store.close)
            listening = stack.enter_context(_bind(self.host, self.port))
            self.port = listening.getsockname()[1]
            identity = self._identity()
            token = tokens.ensure_admin(folder / "tokens.json", kubeconfig.token_in(self.kubeconfig))
            parts = self._compose(store, folder)
            stack.push_async_callback(parts.logs.close)
            await bootstrap(parts.context, self.port, identity.ca_pem)
            self.housekeeping = Housekeeping(parts.context, identity.ca_pem)
            stack.push_async_callback(self.housekeeping.stop)
            await self.housekeeping.start()
            stack.push_async_callback(parts.custom.stop)
            parts.custom.start(parts.context)
            tls = identity.server_context()
            stack.push_async_callback(_cancelled, asyncio.create_task(self._renew(tls), name="certificate"))
            await self._listen(parts.app, tls, listening, stack)
            kubeconfig.write(self.kubeconfig, server=self.url, ca_pem=identity.ca_pem, token=token)
            self._running = stack.pop_all()
        self._store = store

    def _identity(self) -> pki.Identity:
        return pki.ensure(self.home / "server", now=self._sources.now(), addresses=_addresses(self.host))

    def _compose(self, store: Store, folder: Path) -> _Parts:
        catalog, metrics, reader = Catalog(BUILTIN_TYPES), Metrics(), StoreReader(store)
        custom = CustomResources(store, catalog)
        sources = self._sources
        account_tokens = ServiceAccountTokens(KeyRing.open(folder), reader, sources.uid)
        authenticator = Authenticator(tokens.UserTokens(folder / "tokens.json", reader), account_tokens, sources.now)
        authorizer = Authorizer(reader)
        admission = (*plugins(authorizer, name_suffix=sources.name_suffix), pod_classes)
        context = Context(
            store, catalog, reader, authorizer.require, admission, sources.now, sources.uid, sources.name_suffix
        )
        checks: dict[str, Callable[[], str]] = {"ping": lambda: "", "store": lambda: store.problem}
        address = _authority(self.host, self.port)
        pages = Pages(catalog, store, metrics, account_tokens, _version(), address, checks)
        logs = Logs(client_context(folder, sources.now()))
        table = handlers(Reviews(authenticator, authorizer, account_tokens), logs)
        dispatcher = Dispatcher(context, table)
        custom.changed = dispatcher.end_watches
        return _Parts(context, App(dispatcher, pages, authenticator, authorizer, metrics, sources.uid), custom, logs)

    @staticmethod
    async def _listen(app: App, tls: ssl.SSLContext, listening: socket.socket, stack: AsyncExitStack) -> None:
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_IDLE_CONNECTION_S,
            timeout_graceful_shutdown=_STOP_S,
        )
        config.load()
        config.ssl = tls
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[listening])
        serving = asyncio.create_task(server.main_loop(), name="apiserver")

        async def close() -> None:
            server.should_exit = True
            app.stop()
            await serving
            await server.shutdown(sockets=[listening])

        stack.push_async_callback(close)

    async def _renew(self, tls: ssl.SSLContext) -> None:
        """A server may run for longer than its certificate: look daily, and show the new one from then on."""
        while True:
            await asyncio.sleep(_RENEW_S)
            try:
                self._identity().load_into(tls)
            except OSError as error:
                logger.warning("renewing the server's certificate: %s", error)

    async def stop(self) -> None:
        """End watches, answer what is under way, and close the store. Safe to call twice."""
        await self._running.aclose()

    def statistics(self) -> Statistics:
        assert self._store is not None, "the server is not started"
        return self._store.statistics()

    def __repr__(self) -> str:
        return f"<ApiServer {self.url} of {self.home}>"


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise OSError(
                error.errno,
                f"port {port} of {host} is in use by another process: stop it, or choose another with --port",
            ) from error
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    return bound


def _addresses(host: str) -> tuple[str, ...]:
    """The address asked for, if it is one that clients can use."""
    return (
        ()
        if host in {"localhost", "0.0.0.0", "::"} or not host.replace(".", "").replace(":", "").isalnum()
        else (host,)
    )


def _version() -> Json:
    major, minor, _ = KUBERNETES_VERSION.split(".")
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"v{KUBERNETES_VERSION}+mizzen",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation(),
        "platform": f"{platform.system().lower()}/{platform.machine()}",
        "mizzenVersion": __version__,
    }

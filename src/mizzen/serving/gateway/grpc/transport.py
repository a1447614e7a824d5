"""Which transport carries gRPC: pygrpc-native where it is installed, grpcio otherwise, or the one that is asked for."""

from typing import Protocol

from mizzen.kube.errors import ConfigurationError
from mizzen.serving.gateway.grpc.aio import AioServer
from mizzen.serving.gateway.grpc.calls import Calls
from mizzen.serving.gateway.plan import GrpcTransport, Limits

try:
    from mizzen.serving.gateway.grpc.native import NativeServer
except ImportError:  # an extra: mizzen[grpc]
    NativeServer = None  # type: ignore[assignment,misc]


class Transport(Protocol):
    """A transport of one process."""

    async def start(self, address: str) -> None:
        """Listens at `HOST:PORT`, which other processes may share. Raises `OSError` or `RuntimeError`."""

    def stop(self) -> None: ...
    async def stopped(self) -> None: ...


def transport(chosen: GrpcTransport, calls: Calls, limits: Limits) -> Transport:
    """Raises `ConfigurationError` where the one that is asked for is not installed."""
    if chosen == "grpcio" or (chosen == "auto" and NativeServer is None):
        return AioServer(calls, limits)
    if NativeServer is None:
        raise ConfigurationError("--grpc native: expected the package pygrpc-native: pip install 'mizzen[grpc]'")
    return NativeServer(calls, limits)

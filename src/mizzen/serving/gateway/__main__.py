"""`python -m mizzen.serving.gateway`: the parent of the gateway's processes. It imports little, and stays small."""

import argparse
import logging
import os
import socket
import sys
import tempfile
from pathlib import Path

from mizzen.serving.gateway.plan import Limits, Plan
from mizzen.serving.gateway.supervisor import Supervisor, bind, reserve

PORT_DEFAULT = 7080


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("mizzen.serving.gateway", description="The gateway of all inference endpoints.")
    parser.add_argument("--kubeconfig", help="the API server that says what is served; default: as kubectl finds it")
    parser.add_argument("--directory", type=Path, help="a JSON file that says what is served, instead of an API server")
    parser.add_argument("--host", default="127.0.0.1", help="plain HTTP: elsewhere than here, behind a TLS proxy")
    parser.add_argument(
        "--port",
        type=int,
        default=_given("HTTP") or PORT_DEFAULT,
        help="0: a free one, which is printed; default: the Pod's port http, or %(default)s",
    )
    parser.add_argument(
        "--grpc-port", type=int, default=_given("GRPC"),
        help="0: a free one; default: the Pod's port grpc, or the one after --port, free as it is",
    )  # fmt: skip
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 1) // 2))
    parser.add_argument("--report-to", help="where the scaling controller listens: unix:/path, or host:port")
    parser.add_argument("--metrics", choices=["local", "anyone"], default="local", help="who may read /metrics")
    parser.add_argument("--log-dir", type=Path, help="folder of the prediction log's rings; default: nothing is logged")
    parser.add_argument(
        "--online", default=os.environ.get("MIZZEN_ONLINE_URL"), metavar="URL",
        help="the online store of features (lmdb:///…, redis://…); default: $MIZZEN_ONLINE_URL, or none",
    )  # fmt: skip
    parser.add_argument(
        "--traces", default=os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"), metavar="URL",
        help="an OpenTelemetry collector (OTLP over HTTP); default: $OTEL_EXPORTER_OTLP_ENDPOINT, or no traces",
    )  # fmt: skip
    parser.add_argument("--traces-ratio", type=float, default=float(os.environ.get("OTEL_TRACES_SAMPLER_ARG") or 1.0))
    parser.add_argument("--access-log", metavar="FILE", help="a JSON line for each request; -: standard output")
    parser.add_argument("--http", choices=["llhttp", "granian"], default="llhttp", help="granian: HTTP/2 too, slower")
    parser.add_argument(
        "--grpc", choices=["auto", "grpcio", "native", "off"], default="auto", help="auto: native where it is installed"
    )
    parser.add_argument("--body-bytes-max", type=int, default=Limits().body_bytes_max)
    parser.add_argument("--body-timeout-s", type=float, default=Limits().body_timeout_s)
    return parser.parse_args()


def _given(name: str) -> int | None:
    """The port that the node chose for this Pod, where it runs as one of Mizzen's own nodes has it."""
    text = os.environ.get(f"MIZZEN_PORT_{name}")
    return int(text) if text else None


def _address(reserved: socket.socket) -> str:
    host, port = reserved.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def main() -> int:
    """Returns the exit status."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    port = arguments.port
    try:
        sockets = bind(arguments.host, port, max(1, arguments.processes))
        reserved = None
        if arguments.grpc != "off":
            port = arguments.grpc_port if arguments.grpc_port is not None else port + 1 if port else 0
            reserved = reserve(arguments.host, port)
    except OSError as error:
        print(f"cannot listen on {arguments.host}:{port}: {error.strerror}", file=sys.stderr)
        return 1
    host, port = sockets[0].getsockname()[:2]
    grpc_address = _address(reserved) if reserved is not None else None
    parent_read, _parent_write = os.pipe()
    with tempfile.TemporaryDirectory(prefix="mizzen-gateway-") as metrics_dir:
        plans = [
            Plan(
                slot=slot,
                listen_fd=listening.fileno(),
                parent_fd=parent_read,
                metrics_dir=metrics_dir,
                metrics_for_all=arguments.metrics == "anyone",
                directory_file=str(arguments.directory) if arguments.directory is not None else None,
                kubeconfig=arguments.kubeconfig,
                online_url=arguments.online or None,
                report_to=arguments.report_to,
                traces_url=arguments.traces or None,
                traces_ratio=arguments.traces_ratio,
                access_log=arguments.access_log,
                log_dir=str(arguments.log_dir) if arguments.log_dir is not None else None,
                http=arguments.http,
                grpc_address=grpc_address,
                grpc="auto" if arguments.grpc == "off" else arguments.grpc,
                limits=Limits(body_bytes_max=arguments.body_bytes_max, body_timeout_s=arguments.body_timeout_s),
            )
            for slot, listening in enumerate(sockets)
        ]
        if grpc_address is not None:
            print(f"gRPC at {grpc_address}")
        print(f"listening on http://{host}:{port}", flush=True)
        return Supervisor(sockets, plans).run()


if __name__ == "__main__":
    sys.exit(main())

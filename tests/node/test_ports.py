"""Ports for Pods that share one machine's network."""

import random
import socket

import pytest
from tests.node.builders import container, pod

from mizzen.local.node.ports import NoFreePortError, bound_port, choose, is_free, variable

HERE = "127.0.0.1"
WEB = container(ports=[{"name": "http", "containerPort": 8080}, {"name": "metrics-http", "containerPort": 9090},
                       {"containerPort": 7000}])  # fmt: skip


def test_each_named_port_gets_a_free_one_of_its_own() -> None:
    chosen = choose(pod(WEB), HERE, set(), random.Random(1))
    assert set(chosen) == {"http", "metrics-http"}
    assert len(set(chosen.values())) == 2
    assert all(is_free(HERE, port) for port in chosen.values())


def test_ports_given_out_or_in_use_are_not_chosen() -> None:
    """The same randomness would choose the same port again: it is passed over."""
    first = choose(pod(WEB), HERE, set(), random.Random(1))
    again = choose(pod(WEB), HERE, set(first.values()), random.Random(1))
    assert not set(first.values()) & set(again.values())
    with socket.socket() as listener:
        listener.bind((HERE, first["http"]))
        listener.listen()
        assert first["http"] not in choose(pod(WEB), HERE, set(), random.Random(1)).values()


def test_a_port_whose_connections_have_just_ended_is_not_free() -> None:
    """A Pod that binds without SO_REUSEADDR would fail there for a minute (TIME_WAIT)."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HERE, 0))
        listener.listen()
        port = listener.getsockname()[1]
        with socket.create_connection((HERE, port)) as client:
            accepted, _ = listener.accept()
            accepted.close()  # who closes first keeps the TIME_WAIT
            assert client.recv(1) == b""
    assert not is_free(HERE, port)


def test_a_host_port_is_taken_as_it_stands_or_refused() -> None:
    with socket.socket() as listener:
        listener.bind((HERE, 0))
        port = listener.getsockname()[1]
        wanted = pod(container(ports=[{"name": "a", "containerPort": 1, "hostPort": port}]))
        listener.listen()
        with pytest.raises(NoFreePortError, match=f"hostPort {port}"):
            choose(wanted, HERE, set(), random.Random(1))
    assert choose(wanted, HERE, set(), random.Random(1)) == {"a": port}


def test_probes_find_the_port_really_bound() -> None:
    chosen = {"http": 20001, "metrics-http": 20002}
    assert [bound_port(pod(WEB), chosen, port) for port in ("http", 9090, "9090", 7000, 1)] == [
        20001, 20002, 20002, 7000, 1,
    ]  # fmt: skip
    with pytest.raises(KeyError):
        bound_port(pod(WEB), chosen, "grpc")


def test_the_variable_of_a_port() -> None:
    assert variable("metrics-http") == "MIZZEN_PORT_METRICS_HTTP"

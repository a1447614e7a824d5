"""Saying that a process is ready: heard where somebody listens, and never waited for."""

import socket
from pathlib import Path

import pytest

from mizzen.kube.process import notify_ready


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.setblocking(False)
        listening.bind(str(tmp_path / "n"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        yield listening


def test_it_is_heard(listener: socket.socket) -> None:
    notify_ready()
    assert listener.recv(100) == b"READY=1"


def test_a_listener_that_does_not_listen_is_not_waited_for(listener: socket.socket) -> None:
    for _ in range(1000):  # more than a socket holds; one that blocked would never come back
        notify_ready()
    assert listener.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "@nobody-is-there"])
def test_where_nobody_is_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify_ready()

"""Processes are killed, stopped and replaced under load: what was accepted is answered, and the rest heals by itself."""

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from mizzen.serving.gateway.directory import Version

from .builders import doubling_model
from .stack import PATIENCE_S, Load, Stack, eventually, kill, request_body


@pytest.fixture
def stack():
    with Stack() as made:
        yield made


def test_killed_workers_lose_no_request(stack):
    """Four workers are killed one after the other, each while it is busy; others take over; every answer is right."""
    digest = stack.put(doubling_model())
    stack.serve(digest)
    workers = [stack.worker(digest), stack.worker(digest)]
    stack.start_gateway()
    with Load(stack, clients=6) as load:
        for _ in range(4):
            load.after(200)
            victim = workers.pop(0)
            victim.kill()
            stack.forget(victim)
            workers.append(stack.worker(digest))
        load.after(200)
    assert load.wrong == []
    assert set(stack.outcomes()) == {"ok"}


def test_with_no_worker_left_requests_wait_for_the_next(stack):
    digest = stack.put(doubling_model())
    stack.serve(digest)
    only = stack.worker(digest)
    stack.start_gateway()
    with Load(stack, clients=4) as load:
        load.after(100)
        only.kill()
        stack.forget(only)
        stack.worker(digest)
        load.after(100)
    assert load.wrong == []


def test_a_worker_that_comes_back_at_the_same_place_is_found_again(stack):
    """A container that is restarted in its Pod: the directory says nothing, the link does it."""
    digest = stack.put(doubling_model())
    stack.serve(digest)
    worker = stack.worker(digest)
    stack.start_gateway()
    with Load(stack, clients=3) as load:
        load.after(50)
        worker.kill()
        again = stack.worker(digest, told=False)
        (stack.root / worker.described.uid / "worker.sock").unlink()
        again.line_with("ready")
        (stack.root / again.described.uid / "worker.sock").rename(stack.root / worker.described.uid / "worker.sock")
        load.after(100)
    assert load.wrong == []


def test_a_worker_that_is_told_to_stop_finishes_what_it_has(stack):
    """SIGTERM under load, before the directory knows: no request notices, and the worker ends well."""
    digest = stack.put(doubling_model())
    stack.serve(digest)
    first = stack.worker(digest)
    stack.start_gateway()
    with Load(stack, clients=6) as load:
        load.after(200)
        second = stack.worker(digest)
        second.line_with("ready")
        assert first.end() == 0
        stack.forget(first)
        load.after(200)
    assert load.wrong == []
    assert set(stack.outcomes()) == {"ok"}


def test_versions_are_switched_under_load_without_a_failed_request(stack):
    """Five switches back and forth between versions of other factors: each answer is whole, from one version or the
    other, and from then on from the new one.
    """
    digests = [stack.put(doubling_model(factor=factor)) for factor in (2.0, 3.0)]
    stack.serve(digests[0], version=1)
    for number, digest in enumerate(digests, 1):
        stack.worker(digest, version=number)
    stack.start_gateway()

    def ask(_: int) -> list[tuple[str, list[float]]]:
        with stack.client() as client:
            found = []
            while not stop:
                answer = client.infer([[1.0, 10.0]])
                found.append((answer.json["model_version"], answer.values))
            return found

    stop: list[bool] = []
    with ThreadPoolExecutor(4) as pool, stack.client() as client:
        asking = [pool.submit(ask, number) for number in range(4)]
        for turn in range(5):
            wanted = 2 - turn % 2
            stack.serve(digests[wanted - 1], version=wanted)
            eventually(lambda w=wanted: client.infer([[1.0, 1.0]]).json["model_version"] == str(w), "the new version")
            assert client.infer([[1.0, 1.0]]).values == [wanted + 1.0] * 2
        stop.append(True)
        found = [one for future in asking for one in future.result(PATIENCE_S)]
    assert {(version, tuple(values)) for version, values in found} == {("1", (2.0, 20.0)), ("2", (3.0, 30.0))}
    assert set(stack.outcomes()) == {"ok"}


def test_a_killed_gateway_process_is_replaced_and_retries_succeed(stack):
    """Two processes, one killed three times under load: clients that ask again are answered; the counters do not go
    back; both are there again.
    """
    digest = stack.put(doubling_model())
    stack.serve(digest)
    stack.worker(digest)
    stack.start_gateway(processes=2)
    with Load(stack, clients=6, retries=True) as load:
        for _ in range(3):
            load.after(200)
            before = set(stack.children())
            kill(stack.children()[0])
            eventually(lambda b=before: len(now := set(stack.children())) == 2 and now != b, "a new process")
        load.after(300)
    assert load.wrong == []
    assert load.broken <= 3 * 6, "a connection breaks once for each kill at most"
    eventually(lambda: stack.metrics()["mizzen_gateway_processes"] == 2, "both to write their numbers")
    assert len([line for line in stack.gateway.output if "its successor starts" in line]) == 3


def test_metrics_are_those_of_all_processes(stack):
    digest = stack.put(doubling_model())
    stack.serve(digest)
    stack.worker(digest)
    stack.start_gateway(processes=3)
    for _ in range(60):
        with stack.client() as client:
            assert client.infer([[1.0, 2.0]]).status == 200
    eventually(lambda: stack.outcomes() == {"ok": 60}, "all processes to have told")
    labels = '{namespace="default",endpoint="m"}'
    eventually(lambda: stack.metrics()[f"mizzen_gateway_request_seconds_count{labels}"] == 60, "those of time too")
    assert stack.metrics()[f"mizzen_gateway_workers{labels}"] == 1


def test_a_gateway_that_is_told_to_stop_answers_what_it_took(stack):
    digest = stack.put(doubling_model())
    stack.serve(digest)
    worker = stack.worker(digest)
    gateway = stack.start_gateway()
    with stack.client() as client:
        assert client.infer([[1.0, 2.0]]).status == 200
    os.kill(worker.inner.pid, signal.SIGSTOP)
    with stack.client() as client:
        client.connection.request("POST", "/v2/models/m/infer", request_body([[3.0, 4.0]]))
        running = 'mizzen_gateway_batches_running{namespace="default",endpoint="m"}'
        eventually(lambda: stack.metrics()[running] == 1, "the request to be with the worker")
        gateway.inner.terminate()
        with pytest.raises(OSError):  # noqa: PT012 - until the port is closed
            while True:
                socket.create_connection(("127.0.0.1", stack.port), timeout=PATIENCE_S).close()
        os.kill(worker.inner.pid, signal.SIGCONT)
        response = client.connection.getresponse()
        assert (response.status, b'"data":[6.0,8.0]' in response.read()) == (200, True)
    assert gateway.inner.wait(PATIENCE_S) == 0


def test_processes_do_not_outlive_a_killed_parent(stack):
    gateway = stack.start_gateway(processes=2)
    eventually(lambda: stack.metrics()["mizzen_gateway_processes"] == 2, "both processes to answer")
    children = stack.children()
    gateway.kill()
    eventually(lambda: not any(alive(pid) for pid in children), "both to end")


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_port_in_use_is_said(stack):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "-m", "mizzen.serving.gateway", "--directory", str(stack.directory), "--port", str(port)],
            capture_output=True, text=True, check=False, timeout=PATIENCE_S,
        )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr == f"cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_a_configuration_that_cannot_work_ends_the_gateway_with_the_reason(stack):
    kubeconfig = stack.root / "kubeconfig"
    kubeconfig.write_text("[]")
    ended = subprocess.run(
        [sys.executable, "-m", "mizzen.serving.gateway", "--kubeconfig", str(kubeconfig), "--port", "0",
         "--processes", "2"],
        capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    assert ended.returncode == 2
    assert str(kubeconfig) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_workers_elsewhere_are_reached_by_tcp(stack):
    digest = stack.put(doubling_model())
    stack.serve(digest)
    stack.worker(digest, tcp=True)
    stack.start_gateway()
    with Load(stack, clients=3) as load:
        load.after(50)
    assert load.wrong == []


def test_a_directory_that_is_damaged_changes_nothing(stack):
    digest = stack.put(doubling_model())
    stack.serve(digest)
    stack.worker(digest)
    gateway = stack.start_gateway()
    with stack.client() as client:
        assert client.infer([[1.0, 2.0]]).status == 200
        stack.directory.write_text("{")
        gateway.line_with("truncated")
        stack.directory.unlink()
        assert client.infer([[1.0, 2.0]]).status == 200
        stack.endpoints["n"] = stack.endpoints["m"].__class__(
            "default", "n", anonymous=True, versions=(Version("m", 1, digest),)
        )
        stack.tell()
        eventually(lambda: client.ask("GET", "/v2/models/n/ready").status == 503, "the new endpoint")

"""The queue's promises with real processes: a row that crashes workers, clients that leave, deadlines of 20 ms."""

import http.client
import json
import threading
from collections import Counter
from typing import Self

import pytest

from mizzen.serving.gateway.measures import SECONDS_BUCKETS

from .builders import doubling_model
from .stack import PATIENCE_S, Stack, WorkerProcess, eventually, request_body

CRASHING = "tests.serving.crashing_worker"


@pytest.fixture
def stack():
    with Stack() as made:
        yield made


class Kubelet:
    """Starts workers again that have crashed, as new Pods."""

    def __init__(self, stack: Stack, digest: str, workers: int) -> None:
        self._stack, self._digest = stack, digest
        self.crashes = 0
        self._stop = threading.Event()
        self._workers = [self._start() for _ in range(workers)]
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _start(self) -> WorkerProcess:
        return self._stack.worker(self._digest, module=CRASHING)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            for index, worker in enumerate(self._workers):
                if worker.inner.poll() is not None:
                    self.crashes += 1
                    self._stack.forget(worker)
                    self._workers[index] = self._start()


def test_a_row_in_a_thousand_that_crashes_its_worker_fails_alone_under_load(stack):
    """2,000 requests from eight clients at once; numbers 500 and 1500 end the worker that runs them. Each is run twice
    (the batch with it, then alone), then refused; all others get their answers; the crashes are counted.
    """
    digest = stack.put(doubling_model())
    stack.serve(digest)
    answers: dict[int, tuple[int, list[float]]] = {}
    numbers = iter(range(2000))
    lock = threading.Lock()

    def ask() -> None:
        with stack.client() as client:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                row = [-1.0 if number in {500, 1500} else float(number), 1.0]
                answer = client.infer([row])
                answers[number] = answer.status, answer.values if answer.status == 200 else answer.json["error"]

    with Kubelet(stack, digest, workers=3) as kubelet:
        stack.start_gateway()
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * PATIENCE_S)
        crashed = {number: answers.pop(number) for number in (500, 1500)}
        assert set(crashed.values()) == {(500, "two workers were lost while they ran this request")}
        assert answers == {number: (200, [2.0 * number, 2.0]) for number in range(2000) if number not in crashed}
        assert kubelet.crashes == 4
        assert stack.outcomes() == {"ok": 1998, "worker_lost": 2}
        assert stack.metrics()['mizzen_gateway_workers_lost_total{namespace="default",endpoint="m"}'] == 4


def test_a_client_that_disconnects_costs_no_compute(stack):
    """While the only worker is stopped, ten clients ask and leave; one stays. The worker computes one row, and the ten
    are counted as cancelled.
    """
    digest = stack.put(doubling_model())
    stack.serve(digest)
    worker = stack.worker(digest, credits=1)
    stack.start_gateway()
    with stack.client() as first:
        assert first.infer([[1.0, 2.0]]).status == 200
        rows_before = worker.metric("mizzen_worker_rows_total")
        worker.inner.send_signal(19)  # SIGSTOP: what is sent to it now it has only when it goes on
        running = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=PATIENCE_S)
        running.request("POST", "/v2/models/m/infer", request_body([[3.0, 4.0]]))
        batches = 'mizzen_gateway_batches_running{namespace="default",endpoint="m"}'
        eventually(lambda: stack.metrics()[batches] == 1, "a batch to be with the worker")
        leaving = []
        for _ in range(10):
            connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=PATIENCE_S)
            connection.request("POST", "/v2/models/m/infer", request_body([[5.0, 6.0]]))
            leaving.append(connection)
        waiting = 'mizzen_gateway_requests_waiting{namespace="default",endpoint="m"}'
        eventually(lambda: stack.metrics()[waiting] == 10, "the others to wait")
        for connection in leaving:
            connection.close()
        eventually(lambda: stack.outcomes().get("cancelled") == 10, "the gateway to see that they have gone")
        worker.inner.send_signal(18)  # SIGCONT
        assert json.loads(running.getresponse().read())["outputs"][0]["data"] == [6.0, 8.0]
        running.close()
    assert worker.metric("mizzen_worker_rows_total") - rows_before == 1
    assert stack.metrics()['mizzen_gateway_rows_unwanted_total{namespace="default",endpoint="m"}'] == 0


def test_a_deadline_of_20_ms_is_kept_or_refused(stack):
    """Under four times the load that one stuttering worker can take, each request has its answer, or is told that there
    is none in time; what the gateway answered well took no longer than the request had.
    """
    digest = stack.put(doubling_model())
    stack.serve(digest)
    worker = stack.worker(digest)
    stack.start_gateway()
    statuses: Counter[int] = Counter()
    lock = threading.Lock()
    stop = threading.Event()

    def ask(number: int) -> None:
        with stack.client() as client:
            while not stop.is_set():
                answer = client.infer([[float(number), 1.0]], Request_Timeout_Ms="20")
                with lock:
                    statuses[answer.status] += 1
                if answer.status == 200:
                    assert answer.values == [2.0 * number, 2.0]

    with stack.client() as client:
        assert client.infer([[1.0, 2.0]]).status == 200
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        eventually(lambda n=statuses.total(): statuses.total() > n + 100, "more requests")
        worker.inner.send_signal(19)
        eventually(lambda n=statuses[504] + statuses[429]: statuses[504] + statuses[429] > n + 5, "some to be late")
        worker.inner.send_signal(18)
    stop.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert set(statuses) <= {200, 429, 504}
    buckets = stack.metrics()
    labels = 'namespace="default",endpoint="m"'
    bound = next(bound for bound in SECONDS_BUCKETS if bound > 0.02)
    in_time = buckets[f'mizzen_gateway_request_seconds_bucket{{{labels},le="{bound}"}}']
    slow = buckets[f"mizzen_gateway_request_seconds_count{{{labels}}}"] - in_time
    assert slow <= 1, "but for the first, which had 30 s"

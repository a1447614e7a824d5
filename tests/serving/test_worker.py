"""A worker by itself: what it loads and refuses to load, what it says, and how it keeps to the talk."""

import contextlib
import hashlib
import json
import queue
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from mizzen.serving.frames import Cancel, ErrorCode, FrameReader, Kind, Run, TensorHead, write_frame
from mizzen.serving.tensors import Tensor
from mizzen.serving.worker.artifacts import Artifacts
from mizzen.serving.worker.errors import BatchError, TaskError
from mizzen.serving.worker.model import Model as AnyModel
from mizzen.serving.worker.runner import AT_ONCE_S, LONG_ENOUGH, Job, Runner
from mizzen.serving.worker.runtimes.onnx import OnnxRuntime
from mizzen.serving.worker.task import Surroundings, Task

from .builders import doubling_model, endless_model, picky_model, spec, tensor, text_model, whole_model
from .stack import PATIENCE_S, Stack, WorkerProcess, eventually, request_body


def Model(data: bytes, threads: int) -> AnyModel:  # noqa: N802
    return AnyModel(OnnxRuntime(data, threads))


@pytest.fixture
def stack():
    with Stack() as made:
        yield made


def task(**more) -> Task:
    given = {
        "store_url": "file:///nowhere", "model": "m", "version": 3, "digest": "sha256:" + "0" * 64,
        "namespace": "default", "endpoint": "m",
    }  # fmt: skip
    return Task(**given | more)


# The task


def test_the_task_is_read_as_controllers_write_it():
    text = json.dumps({
        "storeUrl": "file:///s", "namespace": "n", "endpoint": "e", "model": "m", "version": 2,
        "digest": "sha256:" + "a" * 64, "threads": 2, "maxRows": 256,
    })  # fmt: skip
    found = Task.from_environment({"MIZZEN_TASK": text})
    assert (found.store_url, found.version, found.threads, found.digest[:9]) == ("file:///s", 2, 2, "sha256:aa")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "MIZZEN_TASK: expected the worker's task as JSON in the environment, it is not set"),
        ("{", "MIZZEN_TASK: Input data was truncated"),
        ("{}", "MIZZEN_TASK: Object missing required field `storeUrl`"),
        (
            json.dumps({"storeUrl": "", "namespace": "", "endpoint": "", "model": "", "version": 1, "digest": "md5:1"}),
            "MIZZEN_TASK.digest: expected sha256:<64 hex digits>, got 'md5:1'",
        ),
    ],
)
def test_a_task_that_is_none_is_refused(text, message):
    with pytest.raises(TaskError) as caught:
        Task.from_environment({} if text is None else {"MIZZEN_TASK": text})
    assert str(caught.value) == message


def test_the_surroundings_are_those_of_the_node_or_of_a_cluster():
    on_node = Surroundings.from_environment(
        {"MIZZEN_RUN_DIR": "/r", "MIZZEN_ROOTFS": "/pod", "MIZZEN_PORT_HEALTH": "41", "MIZZEN_CACHE_DIR": "/c"}
    )
    assert (on_node.socket, on_node.health_port, on_node.cache) == (Path("/r/worker.sock"), 41, Path("/c"))
    assert on_node.termination_log == Path("/pod/dev/termination-log")
    on_cluster = Surroundings.from_environment({"PORT": "42", "HOSTNAME": "pod-1"})
    assert (on_cluster.socket, on_cluster.frames_port, on_cluster.health_port) == (None, 42, 7091)
    assert (on_cluster.name, on_cluster.termination_log) == ("pod-1", Path("/dev/termination-log"))
    with pytest.raises(TaskError, match="MIZZEN_PORT_HEALTH: expected a port, got '99999'"):
        Surroundings.from_environment({"MIZZEN_PORT_HEALTH": "99999"})


# The bytes


def bytes_of(artifacts: Artifacts) -> bytes:
    with artifacts.model() as model:
        return model if isinstance(model, bytes) else model.read_bytes()


def test_bytes_are_verified_before_they_are_used(stack, tmp_path):
    digest = stack.put(b"the model")
    url = f"file://{stack.root}/store"
    stored = stack.root / "store/models/sha256" / f"{digest[7:]}.onnx"
    with Artifacts(task(store_url=url, digest=digest), tmp_path).model() as model:
        stored.unlink()
        stored.write_bytes(b"another model")
        assert model.read_bytes() == b"the model", "what was verified is what is read, whatever has its name by then"
    with pytest.raises(TaskError, match=r"model m:3 is corrupt: .* found sha256:.*; register it again"):
        bytes_of(Artifacts(task(store_url=url, digest=digest), tmp_path))
    with pytest.raises(TaskError, match=r"model m:3: .*: nothing is stored there"):
        bytes_of(Artifacts(task(store_url=url), tmp_path))
    with pytest.raises(TaskError, match=r"MIZZEN_TASK.storeUrl: expected a store URL"):
        Artifacts(task(store_url="ftp://x"), tmp_path)


def test_a_cached_file_is_used_where_it_is_right_and_replaced_where_it_is_not(tmp_path, monkeypatch):
    data = b"the model"
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    artifacts = Artifacts(task(store_url="s3://bucket/p", digest=digest), tmp_path)
    fetched = []
    monkeypatch.setattr(artifacts._store, "stream", lambda _: fetched.append(1) or iter([data]), raising=False)
    cached = tmp_path / "models" / f"{digest[7:]}.onnx"
    assert (bytes_of(artifacts), cached.read_bytes(), len(fetched)) == (data, data, 1)
    assert (bytes_of(artifacts), len(fetched)) == (data, 1), "from the cache"
    cached.write_bytes(b"half of")
    assert (bytes_of(artifacts), cached.read_bytes(), len(fetched)) == (data, data, 2)


def test_workers_that_start_at_once_fetch_a_model_once(tmp_path, monkeypatch):
    data = b"the model"
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    every = [Artifacts(task(store_url="s3://bucket/p", digest=digest), tmp_path) for _ in range(8)]
    fetched, together = [], threading.Barrier(8)
    for artifacts in every:
        monkeypatch.setattr(artifacts._store, "stream", lambda _: fetched.append(1) or iter([data]), raising=False)

    def start(artifacts):
        together.wait(timeout=30)
        return bytes_of(artifacts)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(start, every)) == [data] * 8
    assert len(fetched) == 1


def test_a_cache_that_cannot_be_written_is_no_reason_not_to_serve(tmp_path, monkeypatch):
    data = b"the model"
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    (tmp_path / "models").write_text("a file where the folder would be")
    artifacts = Artifacts(task(store_url="s3://bucket/p", digest=digest), tmp_path)
    monkeypatch.setattr(artifacts._store, "get_by_digest", lambda *_: data, raising=False)
    assert bytes_of(artifacts) == data


# The model


def test_a_signature_is_read_from_the_model():
    found = Model(text_model(), 1).signature
    assert found.inputs == (spec("word", "BYTES", (-1, 1)), spec("x", "FP64", (-1, 3)))
    assert found.outputs == (spec("echo", "BYTES", (-1, 1)), spec("total", "FP64", (-1, 1)))
    assert not Model(whole_model(), 1).signature.batchable


def test_a_batch_is_run():
    echo, total = Model(text_model(), 1).run(
        [tensor(["ä", ""], "BYTES", (2, 1), "word"), tensor([1, 2, 3, 4, 5, 6], "FP64", (2, 3))]
    )
    assert bytes(echo.data) == bytes(tensor(["ä", ""], "BYTES").data)
    assert (total.shape, bytes(total.data)) == ((2, 1), bytes(tensor([6.0, 15.0], "FP64").data))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([tensor([7], "INT64")], "ONNX Runtime: "),
        ([tensor([1.0], "FP32")], "Unexpected input data type"),
        ([tensor([1], "INT64", name="z")], "ONNX Runtime: "),
        ([], "ONNX Runtime: "),
    ],
)
def test_what_the_runtime_refuses_is_said(inputs, message):
    with pytest.raises(BatchError, match=message):
        Model(picky_model(), 1).run(inputs)


def test_strings_that_are_no_text_are_refused():
    with pytest.raises(BatchError, match="input 'word': expected UTF-8 strings"):
        Model(text_model(), 1).run(
            [Tensor("word", "BYTES", (1, 1), b"\x01\x00\x00\x00\xff"), tensor([0.0] * 3, "FP64", (1, 3))]
        )


@pytest.mark.parametrize("data", [b"", b"not onnx", doubling_model()[:-20]], ids=["empty", "other", "cut"])
def test_bytes_that_are_no_model_are_refused(data):
    with pytest.raises(TaskError, match="ONNX Runtime cannot load the model"):
        Model(data, 1)


def test_a_model_with_outputs_that_are_no_tensors_is_refused():
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x", "x"], ["y"])],
        "sequence",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [onnx.helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 9
    with pytest.raises(TaskError, match=r"output 'y': expected a tensor .*ZipMap"):
        Model(made.SerializeToString(), 1)


def test_warm_up_runs_the_example_or_zeros():
    model = Model(doubling_model(), 1)
    assert (model.warm_up(request_body([[1.0, 2.0]] * 3)), model.warm_up(None)) == ((), ())
    with pytest.raises(TaskError, match="the model's example does not fit its signature: inputs"):
        model.warm_up(request_body([[1.0]]))
    bad = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [9]}]}).encode()
    with pytest.raises(TaskError, match="the model cannot run its own example"):
        Model(picky_model(), 1).warm_up(bad)


# The runner


class Held:
    """A runtime that comes back when it is let."""

    def __init__(self) -> None:
        self.entered, self.may_leave = threading.Event(), threading.Event()
        self.runs = 0

    def run(self, tensors):
        self.runs += 1
        self.entered.set()
        assert self.may_leave.wait(PATIENCE_S)
        return tensors


def test_a_runtime_that_does_not_come_back_is_seen_and_what_is_cancelled_is_not_run():
    held, done = Held(), []
    finished = threading.Semaphore(0)

    def note(job: Job) -> None:
        done.append((job.number, job.began_s is not None))
        finished.release()

    runner = Runner(held, note)
    runner.start()
    assert runner.busy_s() == 0.0
    jobs = [Job(None, number, []) for number in range(3)]
    for job in jobs:
        runner.put(job)
    assert held.entered.wait(PATIENCE_S)
    assert runner.busy_s() > 0.0
    jobs[1].cancelled = True
    held.may_leave.set()
    for _ in jobs:
        assert finished.acquire(timeout=PATIENCE_S)
    runner.stop(PATIENCE_S)
    assert (done, held.runs, runner.busy_s()) == ([(0, True), (1, False), (2, True)], 2, 0.0)


class Steady:
    """A runtime whose batches take so long on a played clock."""

    def __init__(self) -> None:
        self.now_s = self.takes_s = 0.0
        self.threads: list[str] = []

    def run(self, tensors):
        self.threads.append(threading.current_thread().name)
        self.now_s += self.takes_s
        return tensors


def steady_runner(takes_s: float, *, steady: bool = True) -> tuple[Steady, Runner, Callable[[int], Job]]:
    """And how a batch of so many rows is computed on the thread."""
    runtime, back = Steady(), queue.SimpleQueue()
    runtime.takes_s = takes_s
    runner = Runner(runtime, back.put, steady=steady, clock=lambda: runtime.now_s)
    runner.start()

    def compute(rows: int) -> Job:
        runner.put(Job(None, 0, [tensor([0.0] * rows)]))
        job = back.get(timeout=PATIENCE_S)
        runner.returned(job)
        return job

    return runtime, runner, compute


def test_a_batch_is_computed_at_once_where_those_of_its_size_were_long_quick():
    runtime, runner, compute = steady_runner(AT_ONCE_S / 2)
    for _ in range(LONG_ENOUGH):
        assert not runner.run_at_once(Job(None, 0, [tensor([0.0] * 4)]))
        compute(4)
    job = Job(None, 0, [tensor([0.0] * 7)])
    assert runner.run_at_once(job)
    assert (runtime.threads[-1], job.outputs, job.compute_s) == (
        threading.current_thread().name, job.inputs, pytest.approx(AT_ONCE_S / 2),
    )  # fmt: skip
    assert not runner.run_at_once(Job(None, 0, [tensor([0.0] * 8)])), "of this size nothing is known"
    runtime.takes_s = 0.005
    assert runner.run_at_once(Job(None, 0, [tensor([0.0] * 4)]))
    assert not runner.run_at_once(Job(None, 0, [tensor([0.0] * 4)])), "the last of this size was not quick"
    runtime.takes_s = AT_ONCE_S / 2
    later = 0
    while not runner.run_at_once(Job(None, 0, [tensor([0.0] * 4)])):
        compute(4)
        later += 1
    assert 1 < later < LONG_ENOUGH
    runner.stop(PATIENCE_S)


def test_nothing_is_computed_at_once_while_the_thread_has_work_or_the_runtime_runs_a_users_code():
    _, runner, compute = steady_runner(AT_ONCE_S / 2)
    for _ in range(LONG_ENOUGH):
        job = compute(1)
    runner.put(job)
    assert not runner.run_at_once(Job(None, 0, job.inputs)), "one is before it"
    runner.stop(PATIENCE_S)
    _, runner, compute = steady_runner(AT_ONCE_S / 2, steady=False)
    for _ in range(LONG_ENOUGH):
        compute(1)
    assert not runner.run_at_once(Job(None, 0, job.inputs))
    runner.stop(PATIENCE_S)


# The process


class Gateway:
    """The other end of a worker's socket, played by hand."""

    def __init__(self, worker: WorkerProcess) -> None:
        worker.line_with("ready")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(str(worker.described.address.path))
        self.reader = FrameReader()
        self.frames: list = []
        self.hello = self.next().header

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def next(self):
        while not self.frames:
            data = self.socket.recv(65536)
            if not data:
                return None
            self.frames += self.reader.feed(data)
        return self.frames.pop(0)

    def run(self, number: int, *tensors: Tensor) -> None:
        heads = tuple(TensorHead(t.name, t.datatype, t.shape, len(t.data)) for t in tensors)
        self.socket.sendall(b"".join(write_frame(Run(number, heads), [t.data for t in tensors])))


ROW = tensor([1.0, 2.0], shape=(1, 2))


def test_a_worker_says_who_it_is_and_answers_batches(stack):
    digest = stack.put(doubling_model())
    worker = stack.worker(digest, version=4, told=False)
    with Gateway(worker) as gateway:
        hello = gateway.hello
        assert (hello.protocol, hello.model, hello.version, hello.digest, hello.credits) == (1, "m", 4, digest, 2)
        gateway.run(1, ROW)
        gateway.run(2, tensor([1.0], "FP64", (1, 1)))
        result, failure = gateway.next(), gateway.next().header
        assert (result.header.batch, result.header.credits, result.header.compute_s > 0) == (1, 1, True)
        assert bytes(result.tensors[0].data) == bytes(tensor([2.0, 4.0]).data)
        assert (failure.batch, failure.code, failure.credits) == (2, ErrorCode.FAILED, 1)
        assert worker.health("/readyz") == (200, "ok")
        assert worker.health("/livez") == (200, "ok")
        assert worker.metric("mizzen_worker_batches_total") == 2
        assert worker.metric("mizzen_worker_batches_failed_total") == 1
        assert worker.metric("mizzen_worker_gateways") == 1
        assert worker.metric("process_resident_memory_bytes") > 1e6
        assert worker.health("/else")[0] == 404
    assert worker.end() == 0


def test_a_runtime_that_hangs_fails_the_liveness_probe_and_nothing_else(stack):
    """A batch that never comes back: sockets and probes stay live, and one probe says so."""
    worker = stack.worker(stack.put(endless_model()), told=False, stuckAfterS=0.2)
    with Gateway(worker) as gateway:
        gateway.run(1, tensor([1.0]), tensor([3], "INT64", name="rounds"))
        assert bytes(gateway.next().tensors[0].data) == bytes(tensor([4.0]).data)
        gateway.run(2, tensor([1.0]), tensor([2**62], "INT64", name="rounds"))
        eventually(lambda: worker.health("/livez")[0] == 503, "the probe to fail")
        assert "a batch has been running for" in worker.health("/livez")[1]
        assert worker.metric("mizzen_worker_busy_seconds") > 0.2
        assert worker.health("/readyz") == (200, "ok")
        with Gateway(worker) as other:
            assert other.hello.protocol == 1
    worker.kill()


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "expected a frame of 8 to"),
        (b"".join(write_frame(Cancel(1)))[:4] + bytes((Kind.HELLO,)) + b"".join(write_frame(Cancel(1)))[5:], "HELLO"),
    ],
)
def test_who_does_not_speak_the_protocol_is_cut_off_and_harms_nobody(stack, sent, said):
    worker = stack.worker(stack.put(doubling_model()), told=False)
    with Gateway(worker) as gateway, Gateway(worker) as other:
        gateway.socket.sendall(sent)
        with contextlib.suppress(ConnectionError):
            assert gateway.next() is None
        assert said in worker.line_with("a gateway's connection is closed")
        other.run(1, ROW)
        assert other.next().header.batch == 1


def test_more_batches_than_granted_are_not_taken(stack):
    worker = stack.worker(stack.put(doubling_model()), told=False, credits=1)
    with Gateway(worker) as gateway:
        heads = (TensorHead("x", "FP32", (1, 2), 8),)
        gateway.socket.sendall(b"".join(b"".join(write_frame(Run(n, heads), [ROW.data])) for n in range(1, 4)))
        eventually(lambda: any("at most 1 batches at once" in line for line in worker.output), "the refusal")


def test_a_worker_that_is_told_to_stop_says_so_and_waits_for_gateways_to_go(stack):
    worker = stack.worker(stack.put(doubling_model()), told=False)
    with Gateway(worker) as gateway:
        worker.inner.terminate()
        assert type(gateway.next().header).__name__ == "Drain"
        gateway.run(1, ROW)
        assert gateway.next().header.batch == 1, "what was granted may still come"
        assert worker.health("/readyz") == (503, "draining")
    assert worker.inner.wait(PATIENCE_S) == 0


@pytest.mark.parametrize(
    ("spoil", "status", "words"),
    [
        (lambda path: path.unlink(), 2, "nothing is stored there"),
        (lambda path: path.write_bytes(path.read_bytes()[:50]), 2, "is corrupt: "),
    ],
)
def test_a_model_that_cannot_be_used_ends_the_worker_with_the_reason(stack, spoil, status, words):
    digest = stack.put(doubling_model())
    spoil(stack.root / "store/models/sha256" / f"{digest[7:]}.onnx")
    worker = stack.worker(digest, told=False)
    assert worker.inner.wait(PATIENCE_S) == status
    message = (stack.root / worker.described.uid / "dev/termination-log").read_text()
    assert words in message
    assert "\n" not in message
    worker.line_with(words)


def test_bytes_that_are_whole_but_no_model_end_the_worker_with_the_reason(stack):
    worker = stack.worker(stack.put(b"these are no ONNX bytes"), told=False)
    assert worker.inner.wait(PATIENCE_S) == 2
    message = (stack.root / worker.described.uid / "dev/termination-log").read_text()
    assert message.startswith("ONNX Runtime cannot load the model: ")


def test_a_socket_that_a_killed_worker_left_is_taken_over(stack):
    digest = stack.put(doubling_model())
    worker = stack.worker(digest, told=False)
    worker.line_with("ready")
    worker.kill()
    path = worker.described.address.path
    assert path.exists()
    again = stack.worker(digest, told=False)
    again.line_with("ready")
    assert path.stat().st_mode & 0o077 == 0, "for this user only"

"""A user's own class as a model: tried before it is registered, served as it was tried, and contained."""

import base64
import hashlib
import json
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mizzen.data.lake.code import bundle, put_bundle
from mizzen.data.lake.objects import Store
from mizzen.registry.artifact import put_model
from mizzen.registry.errors import ModelUnfit
from mizzen.registry.python_model import PythonModel, prepare_python
from mizzen.serving.frames import Cancel, ErrorCode, Generate, write_frame

from .builders import tensor
from .stack import PATIENCE_S, Stack, eventually
from .test_worker import Gateway
from .test_worker_streams import heads

MODELS = '''
import os
import signal
import threading

import numpy as np


class Scaled:
    """Declares what it takes; its factor is in a file, its offset a parameter."""

    inputs = {"x": ("FP32", [-1, 2])}
    outputs = {"y": ("float32", [-1, 2]), "sum": ("FP64", [-1])}

    def load(self, context):
        self.factor = float((context.folder / "factor.txt").read_text())
        self.offset = context.parameters.get("offset", 0.0)
        print(f"loaded in {context.code.name} for {context.threads} threads")

    def predict(self, batch):
        x = batch["x"]
        if (x == 13).any():
            raise ValueError("thirteen is not served here")
        if (x == 99).any():
            signal.pthread_kill(threading.get_ident(), signal.SIGSEGV)
        if (x == 7).any():
            raise SystemExit(3)
        return {"sum": x.sum(axis=1), "y": (self.factor * x + self.offset).astype("f4")}


class Words:
    """Says nothing of itself; text in, text out, and part by part."""

    def predict(self, batch):
        return np.array([text.upper() for text in batch["text"].ravel()], dtype=object).reshape(batch["text"].shape)

    def generate(self, inputs, parameters):
        try:
            for word in inputs["text"].ravel()[0].split()[: parameters.get("most")]:
                if word == b"stop":
                    raise RuntimeError("a word that is not said")
                yield np.array([[word.decode() + parameters.get("end", "")]], dtype=object)
        finally:
            print("let go of", parameters.get("name"))
            if parameters.get("name") == "clumsy":
                raise ValueError("on the way out")


class Odd:
    inputs = {"x": ("FP32", [-1, 1])}
    outputs = {"y": ("FP32", [-1, 1])}
    what = "fine"
    example = {"x": [[1.0], [2.0]]}

    def predict(self, batch):
        x = batch["x"]
        return {
            "fine": x, "fewer": x[:1], "wider": np.concatenate([x, x], axis=1), "text": np.array([["a"]] * len(x)),
            "complex": x * 1j, "other": {"z": x}, "ragged": [[1.0], [1.0, 2.0]],
        }[self.what]


class Fewer(Odd):
    what = "fewer"


class Wider(Odd):
    what = "wider"


class Text(Odd):
    what = "text"


class Complex(Odd):
    what = "complex"


class Other(Odd):
    what = "other"


class Ragged(Odd):
    what = "ragged"


class Unloadable:
    inputs = outputs = {"x": ("FP32", [-1])}

    def load(self, context):
        return open(context.folder / "nothing")

    def predict(self, batch):
        return batch


class Fatal(Unloadable):
    def load(self, context):
        os.kill(os.getpid(), signal.SIGSEGV)


class Silent:
    def predict(self, batch):
        return batch["x"] * 2


class Misdeclared:
    inputs = {"x": "FP32"}
    outputs = {}

    def predict(self, batch):
        return batch


class NoPredict:
    pass


def function(batch):
    return batch
'''


@pytest.fixture
def stack():
    with Stack() as made:
        yield made


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "serve.py").write_text(MODELS)
    (folder / "broken.py").write_text("import nothing_of_that_name\n\nclass Model:\n    pass\n")
    (folder / "files").mkdir()
    (folder / "files/factor.txt").write_text("3")
    return folder


def store_of(stack: Stack) -> Store:
    return Store.open(f"file://{stack.root}/store")


def prepared(stack: Stack, project: Path, model: PythonModel, example=None):
    store = store_of(stack)
    code = put_bundle(store, bundle(project))
    return prepare_python(model, store, code, example, cache=stack.root / "cache")


def registered(stack: Stack, project: Path, model: PythonModel, example=None) -> str:
    return put_model(store_of(stack), prepared(stack, project, model, example)).digest


SCALED = PythonModel("serve:Scaled", parameters={"offset": 1.0})


def scaled(project: Path, **more) -> PythonModel:
    return PythonModel("serve:Scaled", project / "files", parameters={"offset": 1.0}, **more)


def started(stack: Stack, digest: str, **task):
    return stack.worker(digest, told=False, format="python", **task)


def test_a_class_is_served_as_it_was_tried(stack, project):
    """Its files, its parameters, its declared outputs in their order, whatever order it gives them in."""
    found = prepared(stack, project, scaled(project), {"x": [[1.0, 2.0], [3.0, 4.0]]})
    assert [(t.name, t.datatype, t.shape) for t in found.signature.outputs] == [
        ("y", "FP32", [-1, 2]),
        ("sum", "FP64", [-1]),
    ]
    artifact = put_model(store_of(stack), found)
    assert (artifact.format, artifact.entrypoint, artifact.bytes > 1) == ("python", "serve:Scaled", True)
    worker = started(stack, artifact.digest)
    with Gateway(worker) as gateway:
        assert (gateway.hello.digest, gateway.hello.streams) == (artifact.digest, 0)
        x = tensor([1.0, 2.0, 5.0, 6.0], shape=(2, 2))
        gateway.run(1, x)
        y, total = gateway.next().tensors
        assert memoryview(bytes(y.data)).cast("f").tolist() == [4.0, 7.0, 16.0, 19.0]
        assert memoryview(bytes(total.data)).cast("d").tolist() == [3.0, 11.0]
    assert worker.line_with("loaded in code for 1 threads")
    assert worker.end() == 0


def test_what_a_class_raises_is_the_clients_answer_and_the_worker_goes_on(stack, project):
    worker = started(stack, registered(stack, project, scaled(project)))
    with Gateway(worker) as gateway:
        for number, value, words in (
            (1, 13.0, "ValueError: thirteen is not served here (serve.py:"),
            (2, 7.0, "SystemExit: 3"),
        ):
            gateway.run(number, tensor([value, 0.0], shape=(1, 2)))
            failure = gateway.next().header
            assert (failure.code, failure.credits) == (ErrorCode.FAILED, 1)
            assert words in failure.message
            assert failure.message.startswith("serve:Scaled: predict raised ")
        gateway.run(3, tensor([1.0, 1.0], shape=(1, 2)))
        assert len(gateway.next().tensors) == 2


def test_a_crash_in_native_code_ends_the_process_and_leaves_a_trace(stack, project):
    worker = started(stack, registered(stack, project, scaled(project)))
    with Gateway(worker) as gateway:
        gateway.run(1, tensor([99.0, 0.0], shape=(1, 2)))
        assert gateway.next() is None
    assert worker.inner.wait(PATIENCE_S) == -11
    worker.line_with("Fatal Python error: Segmentation fault")
    worker.line_with("serve.py")


def test_a_class_that_says_nothing_of_itself_is_known_by_its_example(stack, project):
    """Text in and text out; and it yields."""
    digest = registered(stack, project, PythonModel("serve:Words"), {"text": [["to be"], ["or"]]})
    worker = started(stack, digest)
    with Gateway(worker) as gateway:
        (spec,) = gateway.hello.signature.inputs
        assert (spec.name, spec.datatype, spec.shape, gateway.hello.streams) == ("text", "BYTES", (-1, 1), 8)
        (out,) = gateway.hello.signature.outputs
        assert (out.name, out.datatype, out.shape) == ("output", "BYTES", (-1, 1))
        gateway.run(1, tensor(["ä", "b"], "BYTES", (2, 1), "text"))
        assert bytes(gateway.next().tensors[0].data) == b"\x02\0\0\0\xc3\xa4\x01\0\0\0B"  # bytes.upper is for ASCII
        parts, end = streamed(gateway, 2, "to be or", end="!")
        assert (parts, type(end).__name__, end.parts) == ([b"to!", b"be!", b"or!"], "End", 3)
        parts, failure = streamed(gateway, 3, "to stop or")
        assert (parts, failure.credits) == ([b"to"], 0)
        assert "generate raised RuntimeError: a word that is not said (serve.py:" in failure.message
        assert streamed(gateway, 4, "a b c", most=2)[0] == [b"a", b"b"]
        for number, name in ((5, "tidy"), (6, "clumsy")):
            words = tensor(["a b c"], "BYTES", (1, 1), "text")
            send(gateway, Generate(number, 1, {"name": name}, heads(words)), words)
            assert gateway.next().header.stream == number
            send(gateway, Cancel(number))
            assert gateway.next().header.code is ErrorCode.CANCELLED
            worker.line_with(f"let go of {name}")
        assert streamed(gateway, 7, "still")[0] == [b"still"]


def streamed(gateway: Gateway, number: int, text: str, **parameters):
    words = tensor([text], "BYTES", (1, 1), "text")
    send(gateway, Generate(number, 100, parameters, heads(words)), words)
    parts = []
    while type((frame := gateway.next()).header).__name__ == "Part":
        parts.append(bytes(frame.tensors[0].data)[4:])
    return parts, frame.header


def send(gateway: Gateway, header, *tensors) -> None:
    gateway.socket.sendall(b"".join(write_frame(header, [one.data for one in tensors])))


@pytest.mark.parametrize(
    ("entrypoint", "message"),
    [
        ("serve:Fewer", "predict: output 'y': expected 2 rows, as many as it was given, got 1"),
        ("serve:Wider", "predict: output 'y': expected shape [-1, 1], got [2, 2]"),
        ("serve:Text", "predict: output 'y': expected FP32, got <U1"),
        ("serve:Complex", "predict: output 'y': expected FP32, got complex64"),
        ("serve:Other", "predict returned ['z'], without y"),
        ("serve:Ragged", "predict: output 'y': expected FP32 of shape [-1, 1]: "),
        ("serve:Unloadable", "serve:Unloadable: load raised FileNotFoundError"),
        ("serve:Fatal", "the process that tried the model died (exit code -11): Fatal Python error: Segmentation fault"),
        ("serve:Silent", "expected the model's inputs: declare them in the class"),
        ("serve:Misdeclared", 'serve:Misdeclared: inputs: expected {"name": ("FP32", [-1, 4])}'),
        ("serve:NoPredict", "expected a class with predict(self, batch), found none"),
        ("serve:function", "expected a class function in module serve, found a function"),
        ("serve:Absent", "expected a class Absent in module serve, found nothing of that name"),
        ("broken:Model", "its module cannot be imported: ModuleNotFoundError: No module named 'nothing_of_that_name' (broken.py:1"),
    ],
)  # fmt: skip
def test_a_class_that_cannot_be_served_gets_no_number(stack, project, entrypoint, message):
    with pytest.raises(ModelUnfit) as caught:
        prepared(stack, project, PythonModel(entrypoint))
    assert message in str(caught.value)


def test_a_class_with_an_example_of_its_own_needs_no_other(stack, project):
    found = prepared(stack, project, PythonModel("serve:Odd"))
    assert found.example is not None
    assert found.example["x"].tolist() == [[1.0], [2.0]]


def test_the_same_model_has_the_same_digest_and_another_has_another(stack, project):
    one, two = (prepared(stack, project, scaled(project)).model for _ in range(2))
    assert one == two
    assert prepared(stack, project, PythonModel("serve:Scaled", project / "files")).model != one


@pytest.mark.parametrize("spoilt", ["document", "file", "code"])
def test_a_part_that_is_not_what_it_was_is_not_loaded(stack, project, spoilt):
    digest = registered(stack, project, scaled(project))
    store = stack.root / "store"
    (path,) = {
        "document": store.glob("models/sha256/*.model.json"),
        "file": store.glob("models/files/sha256/*"),
        "code": store.glob("code/sha256/*"),
    }[spoilt]
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    worker = started(stack, digest)
    assert worker.inner.wait(PATIENCE_S) == 2
    assert "model m:1 is corrupt: " in (stack.root / worker.described.uid / "dev/termination-log").read_text()


def test_a_class_is_told_to_stop_like_any_other(stack, project):
    """One process, the one that was started: SIGTERM reaches it, DRAIN is said, and it ends with 0."""
    worker = started(stack, registered(stack, project, scaled(project)))
    with Gateway(worker) as gateway:
        worker.inner.terminate()
        assert type(gateway.next().header).__name__ == "Drain"
        assert worker.health("/readyz") == (503, "draining")
        assert json.loads(worker.health("/status")[1])["stage"] == "draining"
    assert worker.inner.wait(PATIENCE_S) == 0


def test_an_environment_of_its_own_is_made_and_used(stack, project, tmp_path):
    """A package of another version than the host has, and none of the host's that it does not name."""
    lock = wheel(tmp_path / "wheels", "mzdemo", "1.5", "FACTOR = 5\n")
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "own.py").write_text(
        textwrap.dedent("""
        import importlib.util
        import sys

        import mzdemo


        class Model:
            inputs = {"x": ("FP32", [-1, 1])}
            outputs = {"y": ("FP32", [-1, 1])}

            def predict(self, batch):
                assert importlib.util.find_spec("pyarrow") is None, "the host's packages are not the model's"
                assert "environments" in sys.prefix
                return batch["x"] * mzdemo.FACTOR
        """)
    )
    (folder / "requirements.txt").write_text(lock)
    store = store_of(stack)
    code = put_bundle(store, bundle(folder))
    model = PythonModel("own:Model", requirements="requirements.txt")
    cache = stack.root / "cache"
    digest = put_model(store, prepare_python(model, store, code, {"x": np.ones((2, 1), "f4")}, cache=cache)).digest
    (tmp_path / "wheels").rename(tmp_path / "gone")  # what follows is from the cache
    environment = {"MIZZEN_CACHE_DIR": str(cache)}
    worker = stack.worker(digest, told=False, format="python", environment=environment)
    with Gateway(worker) as gateway:
        gateway.run(1, tensor([2.0], shape=(1, 1)))
        assert memoryview(bytes(gateway.next().tensors[0].data)).cast("f").tolist() == [10.0]
    eventually(lambda: json.loads(worker.health("/status")[1])["facts"]["runtime"] == "python own:Model", "its facts")


def wheel(folder: Path, name: str, version: str, source: str) -> str:
    """Makes a wheel; returns a lock file's text that names it, with its hash."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{n},sha256={base64.urlsafe_b64encode(hashlib.sha256(t.encode()).digest()).rstrip(b'=').decode()},{len(t)}\n"
        for n, t in files.items()
    )
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(zipfile.ZipInfo(inner), text)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"--no-index\n--find-links {folder}\n{name}=={version} --hash=sha256:{digest}\n"

"""What is in a `.pt2` archive before PyTorch sees it: no pickle, no native code, and sizes that are arithmetic."""

import io
import json
import pickle
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.serving.worker.errors import TaskError
from mizzen.serving.worker.runtimes.torch_archive import without_pickles

PROGRAM = {
    "graph_module": {"graph": {"inputs": [{"as_tensor": {"name": "x"}}], "nodes": []}},
    "guards_code": ["__import__('os').system('echo no')"],
    "sizes": [{"as_expr": {"expr_str": "Add(Mul(Integer(2), Symbol('s23', positive=True)), Integer(-1))"}}],
}
GOOD = {
    "m/archive_format": b"pt2",
    "m/data/weights/weight_0": b"\x00" * 32,
    "m/data/weights/model_weights_config.json": json.dumps({"config": {"w": {"use_pickle": False}}}).encode(),
    "m/data/constants/model_constants_config.json": b'{"config": {}}',
    "m/data/sample_inputs/model.pt": pickle.dumps({"anything": 1}),
    "m/models/model.json": json.dumps(PROGRAM).encode(),
}


def archive(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as zipped:
        for name, data in files.items():
            zipped.writestr(name, data)
    return made.getvalue()


def contents(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}


def test_examples_and_guards_are_taken_out_and_the_rest_stays():
    found = contents(without_pickles(archive(GOOD)))
    assert found["m/data/sample_inputs/model.pt"] == b""
    assert json.loads(found["m/models/model.json"]) == PROGRAM | {"guards_code": []}
    for name in GOOD.keys() - {"m/data/sample_inputs/model.pt", "m/models/model.json"}:
        assert found[name] == GOOD[name]


def program(**more) -> dict[str, bytes]:
    return {"m/models/model.json": json.dumps(PROGRAM | more).encode()}


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        (
            {"m/data/weights/model_weights_config.json": json.dumps({"config": {"w": {"use_pickle": True}}}).encode()},
            "expected plain tensors, found pickled ones",
        ),
        ({"m/data/weights/model.pt": b""}, "a pickle, which is never loaded"),
        ({"m/data/constants/custom_obj_0": b""}, "a pickle, which is never loaded"),
        ({"m/data/constants/opaque_obj_0": b""}, "a pickle, which is never loaded"),
        ({"m/data/aotinductor/model/wrapper.so": b""}, "native code, which is never loaded"),
        (program(sizes=[{"expr_str": "__import__('os').system('x')"}]), "expected arithmetic"),
        (program(sizes=[{"expr_str": "Symbol('s').__class__"}]), "expected arithmetic"),
        (program(sizes=[{"expr_str": "eval('1')"}]), "expected arithmetic"),
        (program(sizes=[{"expr_str": "[1 for _ in ()]"}]), "expected arithmetic"),
        (program(sizes=[{"expr_str": "1 +"}]), "expected arithmetic"),
        (program(nodes=[{"name": "x=__import__('os')"}]), "expected names"),
        (program(nodes=[{"name": "a\nimport os"}]), "expected names"),
        ({"m/models/model.json": b"{"}, "expected an archive of torch.export.save"),
        ({"m/models/model.json": b"[]"}, "expected the program of torch.export.save"),
    ],
)
def test_what_would_run_code_is_refused(spoilt, words):
    with pytest.raises(TaskError, match=words):
        without_pickles(archive(GOOD | spoilt))


@given(st.binary(max_size=300))
def test_noise_is_refused(noise):
    with pytest.raises(TaskError, match="expected an archive"):
        without_pickles(noise)


def test_an_encrypted_archive_is_refused():
    wire = bytearray(archive(GOOD))
    wire[wire.index(b"PK\1\2") + 8] |= 1  # the flag of the first entry in the directory
    with pytest.raises(TaskError, match="expected an archive"):
        without_pickles(bytes(wire))


@given(st.data())
def test_an_archive_with_one_byte_changed_is_taken_or_refused_and_nothing_else(data):
    wire = bytearray(archive(GOOD))
    wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = contents(without_pickles(bytes(wire)))
    except TaskError:
        return
    assert not any(found.get(name) for name in found if "sample_inputs" in name)

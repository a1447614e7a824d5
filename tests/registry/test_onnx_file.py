"""Files that someone brings: signatures, and every way in which a file can be none."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mizzen.kinds.build import Tensor
from mizzen.registry.errors import CorruptModel
from mizzen.registry.onnx_file import inspect, session_of, signature_of_session, zeros_for


def model(
    nodes: list[object],
    inputs: list[tuple[str, int, list[object]]],
    outputs: list[tuple[str, int, list[object]]],
    opset: int = 18,
) -> bytes:
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
    )  # fmt: skip
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=imports, ir_version=9).SerializeToString())


def doubling() -> bytes:
    return model(
        [helper.make_node("Add", ["x", "x"], ["y"]), helper.make_node("Identity", ["s"], ["t"])],
        [("x", TensorProto.FLOAT, ["n", 3]), ("s", TensorProto.STRING, [None])],
        [("y", TensorProto.FLOAT, ["n", 3]), ("t", TensorProto.STRING, [None])],
    )


def test_the_signature_is_what_the_model_says() -> None:
    """Names, types and shapes, open dimensions as -1; a row of zeros fits it."""
    signature = inspect(doubling()).signature
    assert signature.inputs == [
        Tensor(name="x", datatype="FP32", shape=[-1, 3]), Tensor(name="s", datatype="BYTES", shape=[-1]),
    ]  # fmt: skip
    assert signature.outputs == [
        Tensor(name="y", datatype="FP32", shape=[-1, 3]), Tensor(name="t", datatype="BYTES", shape=[-1]),
    ]  # fmt: skip
    found = session_of(doubling()).run(None, zeros_for(signature))
    assert [array.shape for array in found] == [(1, 3), (1,)]


ADD = helper.make_node("Add", ["x", "x"], ["y"])
FLOATS = [("x", TensorProto.FLOAT, [None, 3])], [("y", TensorProto.FLOAT, [None, 3])]
CORRUPT = {
    "text": (b"hello, I am no model", "cannot load the model"),
    "zeros": (bytes(1000), "cannot load the model"),
    "cut in half": (doubling()[: len(doubling()) // 2], "cannot load the model"),
    "a newer operator set": (model([ADD], *FLOATS, opset=99), "cannot load the model"),
    "an unknown operator": (model([helper.make_node("NoSuchOperator", ["x"], ["y"])], *FLOATS), "NoSuchOperator"),
    "an undefined input": (model([helper.make_node("Add", ["x", "z"], ["y"])], *FLOATS), "cannot load the model"),
    "wrong types": (model([ADD], [("x", TensorProto.STRING, [None])], FLOATS[1]), "cannot load the model"),
    "a cycle": (model([helper.make_node("Add", ["x", "y"], ["z"]), helper.make_node("Add", ["z", "x"], ["y"])], *FLOATS), "cannot load the model"),
}  # fmt: skip


@pytest.mark.parametrize("name", CORRUPT)
def test_a_file_that_cannot_be_served_is_told_in_one_line(name: str) -> None:
    """The runtime's words, and which runtime."""
    data, message = CORRUPT[name]
    with pytest.raises(CorruptModel, match=message) as caught:
        session_of(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", doubling()[:-5]])
def test_a_look_from_outside_tells_the_same(data: bytes) -> None:
    """Through the process that is made for it."""
    with pytest.raises(CorruptModel, match=r"an empty file|cannot load the model"):
        inspect(data)


def test_a_model_that_zeros_are_nothing_for_is_no_corrupt_model() -> None:
    """It cannot be run on them, which is all that is said."""
    shape = helper.make_node("Constant", [], ["s"], value=helper.make_tensor("s", TensorProto.INT64, [2], [-1, 7]))
    wide = model([shape, helper.make_node("Reshape", ["x", "s"], ["y"])], *FLOATS)
    assert not inspect(wide).answers_zeros
    assert inspect(doubling()).answers_zeros


def test_maps_are_refused_with_the_remedy() -> None:
    """A classifier that was converted with ZipMap."""
    zipped = model(
        [helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])],
        [("x", TensorProto.FLOAT, [None, 3])],
        [],
    )
    loaded = onnx.load_from_string(zipped)
    value = helper.make_value_info("y", helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    ))  # fmt: skip
    loaded.graph.output.append(value)
    with pytest.raises(CorruptModel, match=r"output y: expected a tensor, found seq\(map.*zipmap off"):
        signature_of_session(session_of(loaded.SerializeToString()))


def test_a_model_that_kills_or_holds_its_process_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that looks may die or hang; the error says which. (Stood in for by other programs.)"""
    for script, message in (
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"died of the model \(exit code -11\)"),
        ("import threading; threading.Event().wait()", "did not answer"),
    ):
        program = tmp_path / "python"
        program.write_text(f"#!{sys.executable}\n{script}\n")
        program.chmod(0o755)
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", str(program))
            with pytest.raises(CorruptModel, match=message):
                inspect(doubling(), timeout_s=1.0)


@given(st.integers(0, len(doubling()) - 1), st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_a_flipped_byte_never_passes_for_another_error(position: int, change: int) -> None:
    """Any damage either still is a model, or is `CorruptModel`."""
    data = bytearray(doubling())
    data[position] ^= change
    try:
        session = session_of(bytes(data))
        signature_of_session(session)
    except (CorruptModel, ValueError):
        return
    assert session.get_inputs() is not None
    assert np.isfinite(0.0)

"""The peer of the gateway's benchmark: FastAPI on uvicorn with the model in the same process, as its documentation has it.

Typed body and answer, uvloop and httptools, no access log; no batching, no authentication, no metrics, no limits.
"""

import os
from pathlib import Path

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(Path(os.environ["MODEL"]).read_bytes(), options)
input_name = session.get_inputs()[0].name
output_names = [node.name for node in session.get_outputs()]
app = FastAPI()


class Input(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Request(BaseModel):
    inputs: list[Input]


class Output(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Answer(BaseModel):
    model_name: str
    outputs: list[Output]


DATATYPES = {"float32": "FP32", "int64": "INT64"}


@app.post("/v2/models/bench/infer")
async def infer(request: Request) -> Answer:
    rows = np.array(request.inputs[0].data, np.float32).reshape(request.inputs[0].shape)
    values = session.run(output_names, {input_name: rows})
    outputs = [
        Output(name=name, shape=list(value.shape), datatype=DATATYPES[value.dtype.name], data=value.ravel().tolist())
        for name, value in zip(output_names, values, strict=True)
    ]
    return Answer(model_name="bench", outputs=outputs)

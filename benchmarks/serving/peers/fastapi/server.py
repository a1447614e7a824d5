"""FastAPI as its documentation has it: typed bodies, one uvicorn process for each core, the model in each process.

What takes long is a plain function, which runs on a thread; what is short runs on the event loop.
"""

import numpy as np
from fastapi import FastAPI, Request, Response
from model_session import NAMES, Model
from pydantic import BaseModel

models = {name: Model(name) for name in NAMES}
app = FastAPI()


class Input(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Question(BaseModel):
    inputs: list[Input]


class Output(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Answer(BaseModel):
    model_name: str
    outputs: list[Output]


def answer(name: str, question: Question) -> Answer:
    rows = np.array(question.inputs[0].data, np.float32).reshape(question.inputs[0].shape)
    label, probabilities = models[name].run(rows)
    return Answer(
        model_name=name,
        outputs=[
            Output(name="label", shape=list(label.shape), datatype="INT64", data=label.tolist()),
            Output(
                name="probabilities",
                shape=list(probabilities.shape),
                datatype="FP32",
                data=probabilities.ravel().tolist(),
            ),
        ],
    )


@app.post("/v2/models/small/infer")
async def small(question: Question) -> Answer:
    return answer("small", question)


@app.post("/v2/models/heavy/infer")
def heavy(question: Question) -> Answer:
    return answer("heavy", question)


@app.post("/raw/wide")
async def wide(request: Request) -> Response:
    return Response(models["wide"].run_bytes(await request.body()), media_type="application/octet-stream")

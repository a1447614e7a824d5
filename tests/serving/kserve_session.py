"""A scripted session of KServe's inference client, run by an interpreter that has it: `HTTP-URL GRPC-ADDRESS KEY`.

It is a program of its own since KServe needs versions of libraries that others here do not want.
"""

import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

ROWS = np.array([[1.5, 2.0], [3.0, 4.5]], np.float32)


def request(binary: bool, **more) -> InferRequest:
    """One of two rows."""
    tensor = InferInput("input", list(ROWS.shape), "FP32")
    tensor.set_data_from_numpy(ROWS, binary_data=binary)
    return InferRequest("tumour", [tensor], request_id="7", **more)


def check(answer) -> None:
    """The sums of both rows."""
    assert (answer.model_name, answer.id) == ("tumour", "7"), answer
    assert answer.model_version in {"1", None}, answer  # the client does not keep it over REST
    (output,) = answer.outputs
    assert (output.name, output.shape) == ("sum", [2, 1]), output
    assert output.as_numpy().ravel().tolist() == [3.5, 7.5], output


async def rest(url: str, key: str) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    headers = {"authorization": f"Bearer {key}"}
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "tumour", headers=headers)
    for binary in (False, True):
        for outputs in (None, [RequestedOutput("sum", {"binary_data": True})]):
            asked = request(binary, request_outputs=outputs)
            check(await client.infer(url, asked, model_name="tumour", headers=headers))
    await client.close()


async def grpc(address: str, key: str) -> None:
    client = InferenceGRPCClient(address, retries=0)
    headers = [("authorization", f"Bearer {key}")]
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("tumour", headers=headers)
    for binary in (False, True):
        check(await client.infer(request(binary), headers=headers))
    await client.close()


async def main() -> None:
    url, address, key = sys.argv[1:]
    await rest(url, key)
    await grpc(address, key)
    print("passed")


asyncio.run(main())

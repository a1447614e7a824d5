"""The form of a request in JSON, with each `data` left as it came: its type depends on its neighbour `datatype`."""

import msgspec

ABSENT = msgspec.Raw()


class TensorParameters(msgspec.Struct):
    binary_data_size: int | None = None
    binary_data: bool | None = None
    classification: msgspec.Raw = ABSENT
    shared_memory_region: msgspec.Raw = ABSENT


class Input(msgspec.Struct):
    name: str
    shape: tuple[int, ...]
    datatype: str
    parameters: TensorParameters | None = None
    data: msgspec.Raw = ABSENT


class Output(msgspec.Struct):
    name: str
    parameters: TensorParameters | None = None


class RequestParameters(msgspec.Struct):
    timeout: int | None = None
    priority: int = 0
    binary_data_output: bool = False


class Request(msgspec.Struct):
    inputs: list[Input]
    id: str | None = None
    parameters: RequestParameters | None = None
    outputs: list[Output] | None = None


decode_envelope = msgspec.json.Decoder(Request).decode

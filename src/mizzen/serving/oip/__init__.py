"""The Open Inference Protocol v2 with Triton's extensions, over REST and gRPC: bytes to tensors and back.

`expected` is a model's signature as a request of any protocol is held against it, which makes it an `inference`;
`request` (whose form is `envelope`) and `response` are JSON with the binary tensor extension; `protobuf` is gRPC, whose
`messages` are made from a table. None of them knows a transport: status codes, routes and headers are the gateway's.
"""

from mizzen.serving.oip.expected import BadRequestError, Expectations
from mizzen.serving.oip.inference import InferenceRequest, WantedOutput
from mizzen.serving.oip.protobuf import MessageDecoder, MessageEncoder
from mizzen.serving.oip.request import RequestDecoder
from mizzen.serving.oip.response import ResponseEncoder, error_body

__all__ = [
    "BadRequestError",
    "Expectations",
    "InferenceRequest",
    "MessageDecoder",
    "MessageEncoder",
    "RequestDecoder",
    "ResponseEncoder",
    "WantedOutput",
    "error_body",
]

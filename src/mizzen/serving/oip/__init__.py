"""The Open Inference Protocol v2 over REST, with the binary tensor extension: bytes to tensors and back.

`request` decodes what a client sent and checks it against a model's signature; `response` encodes what the model gave
and what describes it. Neither knows HTTP: status codes, routes and headers are the gateway's.
"""

from mizzen.serving.oip.request import BadRequestError, InferenceRequest, RequestDecoder, WantedOutput
from mizzen.serving.oip.response import ResponseEncoder, error_body

__all__ = [
    "BadRequestError",
    "InferenceRequest",
    "RequestDecoder",
    "ResponseEncoder",
    "WantedOutput",
    "error_body",
]

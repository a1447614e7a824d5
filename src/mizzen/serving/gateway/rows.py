"""The exchange of `POST /v1/endpoints/NAME:predict`: rows by column name in, a prediction for each out."""

from collections.abc import Sequence

from mizzen.serving.gateway.exchange import JSON_HEADERS, HttpExchange
from mizzen.serving.gateway.served import Served
from mizzen.serving.oip import BadRequestError, InferenceRequest
from mizzen.serving.tensors import Tensor


class RowsExchange(HttpExchange):
    """Plain JSON for people (`mizzen.serving.rows`)."""

    __slots__ = ()

    def read(self, served: Served) -> InferenceRequest:
        body, self.body = self.body, b""
        if self.json_size is not None:
            raise BadRequestError("Inference-Header-Content-Length: this route takes JSON alone")
        return served.rows.decode(body)

    def write(self, served: Served, outputs: Sequence[Tensor]) -> None:
        self.reply.response_bytes(200, JSON_HEADERS, served.rows.encode(outputs))
        self.abandon()

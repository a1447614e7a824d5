"""A custom runtime for MLServer, as its documentation has it."""

import numpy as np
from mlserver import MLModel, ModelSettings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from model_session import Model


class Runtime(MLModel):
    async def load(self) -> bool:
        self.inner = Model(self.name)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        label, probabilities = self.inner.run(rows)
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                NumpyCodec.encode_output("label", label),
                NumpyCodec.encode_output("probabilities", probabilities),
            ],
        )


__all__ = ["ModelSettings", "Runtime"]

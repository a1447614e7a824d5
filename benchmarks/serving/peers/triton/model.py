"""A model of Triton's Python backend."""

import numpy as np
import triton_python_backend_utils as triton
from model_session import Model


class TritonPythonModel:
    def initialize(self, args: dict) -> None:
        self.inner = Model(args["model_name"])

    def execute(self, requests: list) -> list:
        """All requests of a batch in one run."""
        inputs = [triton.get_input_tensor_by_name(request, "X").as_numpy() for request in requests]
        label, probabilities = self.inner.run(inputs[0] if len(inputs) == 1 else np.concatenate(inputs))
        answers, first = [], 0
        for rows in inputs:
            last = first + len(rows)
            answers.append(
                triton.InferenceResponse(
                    [
                        triton.Tensor("label", label[first:last]),
                        triton.Tensor("probabilities", probabilities[first:last]),
                    ]
                )
            )
            first = last
        return answers

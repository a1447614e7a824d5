"""BentoML with one worker of the small model, without access log and metrics."""

import os

import bentoml
import numpy as np
from model_session import Model


@bentoml.service(
    workers=1, traffic={"timeout": 30}, logging={"access": {"enabled": False}}, metrics={"enabled": False},
    http={"port": int(os.environ["PORT"]), "host": "127.0.0.1"},
)  # fmt: skip
class Service:
    """Rows as JSON."""

    def __init__(self) -> None:
        self._model = Model("small")

    @bentoml.api(route="/small")
    def small(self, rows: np.ndarray) -> np.ndarray:
        return self._model.run(rows.astype(np.float32))[1]

"""Labels, annotations and names that the parts agree on."""

import re
from dataclasses import dataclass

LABEL_MODEL = "mizzen.dev/model"
LABEL_VERSION = "mizzen.dev/version"
LABEL_DIGEST = "mizzen.dev/digest"
"""First 16 hex digits of the model's SHA-256: what fits a label and still tells versions apart."""
LABEL_ENDPOINT = "mizzen.dev/endpoint"
LABEL_VIEW = "mizzen.dev/featureview"
"""On a worker of a view's functions: the view."""
LABEL_EXPLAINS = "mizzen.dev/explains"
"""On worker Pods that explain: the endpoint whose answers they explain. They have no `LABEL_ENDPOINT`."""
LABEL_RUN = "mizzen.dev/run"
"""The Job that made this: the key by which a restarted Pod finds what it already did."""
LABEL_API_KEY = "mizzen.dev/api-key"
SECRET_TYPE_API_KEY = "mizzen.dev/api-key"  # noqa: S105 - a type, not a secret

ANNOTATION_PORTS = "node.mizzen.dev/ports"
"""Set by the node: JSON of container port name to the port really bound."""
ANNOTATION_RUN_DIR = "node.mizzen.dev/run-dir"
"""Set by the node: the folder of the Pod's Unix sockets."""

ANNOTATION_LOAD = "mizzen.dev/load"
"""On a Dataset: asks for one load beyond those that its spec asks for; see `LoadRequest`."""

ANNOTATION_RUN = "mizzen.dev/run"
"""On a BatchPrediction: asks for one run beyond those of its spec and schedule; any new value is a new request."""
BATCH_KEY_PREFIX = "batchprediction."
"""How the names of API keys of batch predictions begin: metrics and the prediction log tell their requests by it."""
ANNOTATION_MATERIALISE = "mizzen.dev/materialise"
"""On a FeatureView: asks for one run beyond those that its spec and its source ask for, each time its text changes."""
FINALIZER_ONLINE = "mizzen.dev/online-records"
FINALIZER_KEPT = "mizzen.dev/kept-answers"
"""On a FeatureView: its records are in the online store, and are taken away before it goes."""

SYSTEM_NAMESPACE = "mizzen-system"
SETTINGS_CONFIG_MAP = "mizzen"
RUNNER_SERVICE_ACCOUNT = "mizzen-runner"
PUSH_SERVER = "mizzen-push"
"""Deployment, Service, ServiceAccount and ClusterRole of the push server, in the system namespace."""

_REFERENCE = re.compile(
    r"^(?P<name>[a-z0-9]([-a-z0-9]*[a-z0-9])?)(@(?P<alias>[a-z][-a-z0-9]*)|:(?P<version>[1-9][0-9]*))$"
)


@dataclass(frozen=True, slots=True)
class ModelReference:
    """`name@alias` (followed as the alias moves) or `name:version` (fixed): one of `alias` and `version` is set."""

    name: str
    alias: str | None
    version: int | None

    @classmethod
    def parse(cls, text: str) -> "ModelReference":
        """Raises `ValueError` where the text is no reference."""
        match = _REFERENCE.match(text)
        if match is None:
            raise ValueError("expected a model as name@alias or name:version, such as churn@production or churn:3")
        version = match["version"]
        return cls(match["name"], match["alias"], int(version) if version else None)

    def __str__(self) -> str:
        return f"{self.name}@{self.alias}" if self.alias is not None else f"{self.name}:{self.version}"


_REQUEST = re.compile(r"^(?P<what>new|full|restore (?P<version>[1-9][0-9]*)) at (?P<when>\S+)$")


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """One load that somebody asked for, as the annotation says it: `new at TIME`, `full at TIME`, `restore 3 at TIME`.

    The time tells it from another one that asks for the same.
    """

    full: bool = False
    restore: int | None = None
    when: str = ""

    @classmethod
    def parse(cls, text: str) -> "LoadRequest":
        """Raises `ValueError` where the text asks for nothing that there is."""
        match = _REQUEST.match(text)
        if match is None:
            raise ValueError(
                f"{ANNOTATION_LOAD}: expected `new at TIME`, `full at TIME` or `restore VERSION at TIME`, got {text!r}"
            )
        version = match["version"]
        return cls(match["what"] == "full", int(version) if version else None, match["when"])

    def __str__(self) -> str:
        what = f"restore {self.restore}" if self.restore is not None else "full" if self.full else "new"
        return f"{what} at {self.when}"


def version_name(model: str, version: int) -> str:
    """The `ModelVersion` object's name: `churn-3`."""
    return f"{model}-{version}"

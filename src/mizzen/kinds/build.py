"""The build family: `Model`, `ModelVersion` and `TrainingJob`."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from mizzen.kinds.data import CODE_DIGEST, PYTHON_ENTRYPOINT
from mizzen.kinds.meta import AGE, DNS_LABEL, MESSAGE, READY, REASON, PrinterColumn, Resource, Status, Timestamp, Wire
from mizzen.kinds.pods import PodOptions
from mizzen.kinds.trainingsets import FixedFeatures, TrainingSetReport, TrainingSetSpec

TaskName = Literal["binary-classification", "multiclass-classification", "regression", "other"]
Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "BF16",
    "FP32",
    "FP64",
    "BYTES",
]
"""The Open Inference Protocol's tensor element types."""

ModelFormat = Literal["onnx", "python", "skops", "lightgbm", "xgboost", "torch"]
"""How a model is stored, and which runtime serves it."""

ALIAS = r"^[a-z][-a-z0-9]*$"
Digest = Annotated[str, Field(pattern=CODE_DIGEST)]


class Gate(Wire):
    """One condition a new version must meet before the alias `production` moves to it."""

    metric: str
    """A metric that the training function returned."""
    at_least: float | None = None
    """The metric is at least this."""
    at_most: float | None = None
    """The metric is at most this."""
    compared_with: str | None = Field(default=None, pattern=ALIAS)
    """An alias: the metric is compared with that of the version it points to. Passes while the alias points to none."""
    no_worse_by: float = Field(default=0.0, ge=0.0)
    """With `comparedWith`: how much worse the metric may be."""
    lower_is_better: bool | None = None
    """With `comparedWith`: which way is better; by default known from the metric's name (rmse, log_loss, …)."""

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        named = [self.at_least is not None, self.at_most is not None, self.compared_with is not None]
        if sum(named) != 1:
            raise ValueError("expected exactly one of atLeast, atMost and comparedWith")
        return self


class ModelSpec(Wire):
    """What the model is for, and what a version must show before it is used."""

    task: TaskName = "other"
    """What the model predicts."""
    description: str = ""
    gates: list[Gate] = Field(default_factory=list)
    """All must pass before the alias `production` moves by itself; with none, every new version is taken."""
    trusted_types: list[str] = Field(default_factory=list)
    """Types, as `module.Class`, that a version may hold which is stored in its library's own format (skops). To approve
    one is to run its code: a version that needs others is held back, and names them."""
    aliases: dict[Annotated[str, Field(pattern=ALIAS)], Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Aliases pinned by hand to a version number. A pinned alias does not move by itself until it is taken out here."""


class AliasStatus(Wire):
    """Where an alias points, since when and why."""

    name: str
    version: int
    digest: str
    since: Timestamp
    pinned: bool = False
    reason: str = ""


class ModelStatus(Status):
    """The versions and where the aliases point."""

    latest_version: int | None = None
    versions: int = 0
    """How many versions exist."""
    aliases: Annotated[
        list[AliasStatus],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    ] = Field(default_factory=list)
    production_version: int | None = None
    """The version that `production` points to, for the table of `kubectl get`."""


class Model(Resource):
    """A name for a line of model versions, the gates they must pass, and aliases that endpoints follow."""

    plural: ClassVar[str] = "models"
    short_names: ClassVar[tuple[str, ...]] = ("mdl",)
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn("Task", ".spec.task"),
        PrinterColumn("Versions", ".status.versions", "integer"),
        PrinterColumn("Production", ".status.productionVersion", "integer"),
        READY, REASON, MESSAGE, AGE,
    )  # fmt: skip

    kind: Literal["Model"] = "Model"
    spec: ModelSpec = Field(default_factory=ModelSpec)
    status: ModelStatus = Field(default_factory=ModelStatus)


class Tensor(Wire):
    """A named input or output of a model."""

    name: str
    datatype: Datatype
    shape: list[int]
    """-1 where any length goes; the first dimension is the batch."""


class Signature(Wire):
    """What the model takes and gives."""

    inputs: list[Tensor] = Field(min_length=1)
    outputs: list[Tensor] = Field(min_length=1)
    columns: list[str] = Field(default_factory=list)
    """Names of the columns of a single two-dimensional input, in order; empty where the inputs are the columns."""


class Artifact(Wire):
    """The model in the store."""

    digest: Digest
    """Of the model's bytes; where it has several parts, of the document that names each by its digest."""
    format: ModelFormat = "onnx"
    bytes: int = Field(ge=1)
    """Of all parts."""
    code: Digest | None = None
    """Of a Python model: the code bundle."""
    entrypoint: str | None = Field(default=None, pattern=PYTHON_ENTRYPOINT)
    """Of a Python model: the class, `module:Class`."""
    requirements: Digest | None = None
    """Of a model with an environment of its own: its lock file."""
    untrusted_types: list[str] = Field(default_factory=list)
    """Types that loading it would make and that are not known to be harmless: it is served only when the model's
    `spec.trustedTypes` names them all."""


class DatasetVersion(Wire):
    """A dataset at one version."""

    name: str
    version: int | None = Field(default=None, ge=0)
    """Absent: the version served when the run starts."""
    digest: str | None = None


class Lineage(Wire):
    """What this version was made from: enough to make it again and to answer for it."""

    training_job: str | None = None
    run: str | None = None
    datasets: list[DatasetVersion] = Field(default_factory=list)
    code: Digest | None = None
    entrypoint: str | None = None
    parameters: Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})] = (
        Field(default_factory=dict)
    )
    seed: int | None = None
    python: str | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    """Distributions that the run had imported, with their versions."""
    source_type: str | None = None
    """What the function returned: `lightgbm.Booster`, `sklearn.pipeline.Pipeline`, `onnx`."""


class ConversionCheck(Wire):
    """The converted model against the original on held-out rows."""

    rows: int = Field(ge=0)
    max_abs_difference: float
    tolerance: float


class ModelVersionSpec(Wire):
    """Fixed once made."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {"rule": "self == oldSelf", "message": "is fixed once made: make another version"}
            ]
        }
    )

    model: str = Field(pattern=DNS_LABEL)
    version: int = Field(ge=1)
    artifact: Artifact
    signature: Signature
    metrics: dict[str, float] = Field(default_factory=dict)
    lineage: Lineage = Field(default_factory=Lineage)
    conversion: ConversionCheck | None = None
    """Absent where the model came as ONNX."""


class GateResult(Wire):
    """How one gate came out."""

    gate: str
    """The gate in words: `roc_auc at least 0.68`."""
    passed: bool
    value: float | None = None
    message: str = ""


class ModelVersionStatus(Status):
    """The gates' results and the aliases that point here."""

    aliases: list[str] = Field(default_factory=list)
    gates: list[GateResult] = Field(default_factory=list)


class ModelVersion(Resource):
    """One immutable version of a model: bytes by digest, signature, metrics, lineage."""

    plural: ClassVar[str] = "modelversions"
    short_names: ClassVar[tuple[str, ...]] = ("mv",)
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn("Model", ".spec.model"),
        PrinterColumn("Version", ".spec.version", "integer"),
        PrinterColumn("Format", ".spec.artifact.format"),
        PrinterColumn("Aliases", ".status.aliases"),
        READY, REASON,
        PrinterColumn("Digest", ".spec.artifact.digest", priority=1),
        MESSAGE, AGE,
    )  # fmt: skip

    kind: Literal["ModelVersion"] = "ModelVersion"
    spec: ModelVersionSpec
    status: ModelVersionStatus = Field(default_factory=ModelVersionStatus)


class TrainingJobSpec(PodOptions):
    """Which function makes a version of which model, from what, and the Pod that runs it."""

    model: str = Field(pattern=DNS_LABEL)
    """The `Model` that gets the new version."""
    entrypoint: str = Field(pattern=PYTHON_ENTRYPOINT)
    """A function `module:function` of the code bundle: takes the context, returns the trained model with metrics. Or a
    class `module:Class` with `predict`, which is made a version as it is."""
    requirements: str | None = None
    """A lock file of the code bundle (`requirements.txt`, `pylock.toml`, `uv.lock`): a Python model that this makes is
    served in an environment of its own with these packages."""
    code: str | None = Field(default=None, pattern=CODE_DIGEST)
    """Digest of the code bundle; `mizzen apply` fills it with the manifest's folder."""
    datasets: list[DatasetVersion] = Field(default_factory=list)
    """What the function may read. The run starts when each has a version."""
    features: TrainingSetSpec | None = None
    """A training set, made before the run: rows with their features as they were known then."""
    parameters: Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})] = (
        Field(default_factory=dict)
    )
    """Passed to the function as they are."""
    seed: int = 0
    """For every random generator of the run."""


class Progress(Wire):
    """How far the function says it is."""

    step: int = 0
    total: int | None = None
    message: str = ""


class TrainingReport(Wire):
    """What the training Pod reported of one run."""

    run: str
    """The Job's name."""
    succeeded: bool | None = None
    """Absent while it runs."""
    reason: str = ""
    """One CamelCase word where it failed: `FunctionRaised`, `BadResult`, `ConversionDiffers`."""
    message: str = ""
    progress: Progress | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    """The last logged value of each metric; when it is over, those returned."""
    model_version: str | None = None
    """Name of the `ModelVersion` that this run made."""
    updated_at: Timestamp | None = None


class TrainingJobStatus(Status):
    """The run of the present generation."""

    phase: Literal["Pending", "Running", "Succeeded", "Failed"] | None = None
    current_run: str | None = None
    """The Job of this generation."""
    datasets: list[DatasetVersion] = Field(default_factory=list)
    """The versions the run reads, fixed when it started; the training set among them."""
    features: FixedFeatures | None = None
    """What the training set is made of."""
    training_set: TrainingSetReport | None = None
    """Written by the Pods that make it."""
    model_version: str | None = None
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    run: TrainingReport | None = None
    """Written by the training Pod."""


class TrainingJob(Resource):
    """Runs a training function once for each generation of its spec; the result becomes a `ModelVersion`."""

    plural: ClassVar[str] = "trainingjobs"
    short_names: ClassVar[tuple[str, ...]] = ("tj",)
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn("Model", ".spec.model"),
        PrinterColumn("Phase", ".status.phase"),
        PrinterColumn("Version", ".status.modelVersion"),
        READY, REASON, MESSAGE, AGE,
    )  # fmt: skip

    kind: Literal["TrainingJob"] = "TrainingJob"
    spec: TrainingJobSpec
    status: TrainingJobStatus = Field(default_factory=TrainingJobStatus)

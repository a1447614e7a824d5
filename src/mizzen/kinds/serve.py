"""The serve family: `InferenceEndpoint`."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mizzen.kinds.build import ModelFormat, Signature
from mizzen.kinds.graph import Graph, ModelName
from mizzen.kinds.lookups import FeatureLookup
from mizzen.kinds.meta import AGE, MESSAGE, READY, REASON, PrinterColumn, Resource, Scale, Status, Timestamp, Wire
from mizzen.kinds.pods import EnvValue, Resources
from mizzen.kinds.scalars import Duration, Quantity, duration_s, quantity
from mizzen.kinds.scaling import Profile, Scaling, ScalingStatus


def _not_zero(text: str) -> str:
    if duration_s(text) <= 0:
        raise ValueError("expected a duration of more than 0")
    return text


def _some_bytes(text: str) -> str:
    if quantity(text) < 1:
        raise ValueError("expected a quantity of at least 1")
    return text


SomeTime = Annotated[Duration, AfterValidator(_not_zero)]
SomeBytes = Annotated[Quantity, AfterValidator(_some_bytes)]


AWAKE = "expected no profile and scaling.minReplicas of at least 1 with graph: its models have a worker each at least"


class Batching(Wire):
    """How waiting requests are put together for a worker. An idle worker is given what waits at once."""

    max_rows: int = Field(default=256, ge=1, le=1_000_000)
    """Rows of one batch at most; a larger request is run in parts."""
    max_bytes: SomeBytes = "32Mi"
    """Bytes of the inputs of one batch at most; a larger request is run in parts."""
    max_delay: Duration = "0s"
    """How long an idle worker waits for a batch to fill; worth it only where a call costs much and a row little."""
    target_latency: SomeTime | None = None
    """How long a request should take while the workers keep up: batches are kept small enough for it, by what they were
    measured to take. Without it they are as large as `maxRows` and `maxBytes` let them be.
    """


class TenantShare(Wire):
    """A caller's part of an endpoint that several callers use."""

    api_key: str = Field(min_length=1, max_length=253)
    """Name of the caller's API key (its Secret)."""
    weight: float = Field(default=1.0, ge=0.001, le=1000)
    """Its share of the workers and of the queue while several callers wait; 1 for callers that are not named."""
    priority: int = Field(default=1, ge=1, le=10)
    """The most urgent priority that its requests may have."""


class QueueLimits(Wire):
    """What may wait while all workers are busy or none is ready, and who is next. In each gateway process."""

    max_rows: int = Field(default=8192, ge=1)
    """Rows that may wait; beyond, requests are refused at once with 429 and a Retry-After."""
    max_bytes: SomeBytes = "256Mi"
    """Bytes of inputs that may wait; beyond, likewise."""
    timeout: SomeTime = "30s"
    """How long a request may take in all, unless it says less: then 504, or 503 where no worker was there."""
    priority_levels: int = Field(default=1, ge=1, le=10)
    """Requests may ask for priority 1 (most urgent) to this (`parameters.priority`)."""
    default_priority: int = Field(default=1, ge=1, le=10)
    """The priority of requests that ask for none, or for one that there is not."""
    tenants: Annotated[
        list[TenantShare],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["apiKey"]}),
    ] = Field(default_factory=list, max_length=1000)
    """Callers whose share or priority is not that of all others."""

    @model_validator(mode="after")
    def _levels_exist(self) -> Self:
        if self.default_priority > self.priority_levels:
            raise ValueError(
                f"defaultPriority: expected at most priorityLevels, {self.priority_levels}, got {self.default_priority}"
            )
        return self


class ResponseCache(Wire):
    """Answers kept for requests that come again: only for models that answer the same to the same."""

    ttl: SomeTime = "5m"
    """How long an answer may be given again. A new version begins with none of the old one's."""
    size: Quantity = "64Mi"
    """Memory for answers in each gateway process; who was asked for least recently goes first."""
    machine_size: SomeBytes | None = None
    """Disk for answers that the gateway processes of one machine share; absent: they do not."""
    redis: bool = False
    """Whether answers are shared through the Redis that the gateways are told of (`MIZZEN_CACHE_REDIS`), if any."""


class Explain(Wire):
    """Explanations at `POST …/NAME:explain`: what each feature adds to an answer (Shapley values)."""

    method: Literal["auto", "tree", "kernel"] = "auto"
    """`tree`: exactly, from the model's trees; `kernel`: by coalitions of features, for any model; `auto`: exactly if
    the model has trees."""
    coalitions: int = Field(default=512, ge=16, le=65536)
    """With `kernel`, how many coalitions each row is run with: more is nearer, and takes longer."""
    replicas: int = Field(default=1, ge=0, le=100)
    """Workers that explain, beside those that answer."""


class Logging(Wire):
    """Which requests are logged, and what of them: typed rows of `predictions/NAMESPACE/NAME` in the store."""

    sample: float = Field(default=1.0, ge=0, le=1)
    """The share of requests that is logged, by a hash, so that every gateway takes the same."""
    by: Literal["request", "unit"] = "request"
    """What is drawn: each request by its id, or each unit (the header `Mizzen-Unit`) with all its requests."""
    errors: bool = True
    """Requests that fail are logged whatever `sample` says."""
    redact: list[str] = Field(default_factory=list)
    """Columns, inputs and outputs whose values are not logged: they are null in the table."""
    buffer: Quantity = "8Mi"
    """Memory of each gateway process for records that are not taken yet; what finds it full is lost, and counted."""
    sink: str | None = Field(default=None, pattern="^https?://.+")
    """Where requests and answers are sent as CloudEvents too (`org.kubeflow.serving.inference.request` and
    `.response`).
    """
    events: Literal["request", "response", "all"] = "all"
    """Which CloudEvents are sent."""


class WorkerOptions(Wire):
    """The worker Pods."""

    resources: Resources = Field(default_factory=lambda: Resources(cpu="250m", memory="512Mi"))
    """Processor and memory of one worker; the runtime has a thread for each whole core, and one at least."""
    env: Annotated[
        list[EnvValue],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    ] = Field(default_factory=list)
    node_selector: dict[str, str] = Field(default_factory=dict)
    warm_up_rows: list[Annotated[int, Field(ge=1, le=1_000_000)]] | None = None
    """Batch sizes that a worker has run before it is ready, beside the model's example; by default the powers of two up
    to `batching.maxRows`."""
    start_timeout: Duration = "2m"
    """A new version whose workers are not ready after this long is given up; the old one stays."""


class Rollout(Wire):
    """How a new version takes over: when it has as many workers ready as the one it replaces."""

    keep_previous: Duration = "30s"
    """How long the version that was replaced is kept warm, with as many workers as its successor: going back to it
    takes no start, and happens by itself where its successor's workers come up and die. Of an endpoint of one model."""


class InferenceEndpointSpec(Wire):
    """Which model is served, by how many, to whom."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {"rule": "has(self.model) != has(self.graph)", "message": "expected either model or graph"},
                {
                    "rule": "!has(self.graph) || !has(self.profile) && (!has(self.scaling) || "
                    "!has(self.scaling.minReplicas) || self.scaling.minReplicas > 0)",
                    "message": AWAKE,
                },
            ]
        }
    )

    model: ModelName | None = None
    """The model: `name@alias` (followed as the alias moves) or `name:version` (fixed). Either this or `graph`."""
    graph: Graph | None = None
    """Several models behind one URL."""
    access: Literal["api-key", "anonymous"] = "api-key"
    """Who may call: holders of an API key for this endpoint, or anyone who reaches the port."""
    profile: Profile | None = None
    """A class of service: presets for what `scaling` leaves out. `serverless`: no worker while idle; `always-on`: one
    at least; `batch`: no worker while idle, throughput before latency. See docs/scaling.md."""
    scaling: Scaling = Field(default_factory=Scaling)
    """How many workers."""
    batching: Batching = Field(default_factory=Batching)
    """How requests are put together."""
    queue: QueueLimits = Field(default_factory=QueueLimits)
    """What may wait, and how long."""
    cache: ResponseCache | None = None
    """Keeps answers; absent: every request is computed."""
    explain: Explain | None = None
    """Explains answers; absent: it does not. Of a graph, say it at the endpoints of its models."""
    worker: WorkerOptions = Field(default_factory=WorkerOptions)
    """The worker Pods."""
    features: FeatureLookup | None = None
    """Looks features up by the keys that requests carry; absent: requests carry all that the model takes."""
    rollout: Rollout = Field(default_factory=Rollout)
    """How a new version takes over."""
    logging: Logging | None = None
    """The prediction log; absent: requests are not logged."""

    @model_validator(mode="after")
    def _model_or_graph(self) -> Self:
        if (self.model is None) == (self.graph is None):
            raise ValueError("expected either model or graph")
        if self.graph is not None and (self.profile is not None or self.scaling.min_replicas == 0):
            raise ValueError(AWAKE)
        if self.graph is not None and self.explain is not None:
            raise ValueError("explain: expected with model, not with graph: explain the endpoints of its models")
        if self.graph is not None and self.features is not None:
            raise ValueError("features: expected with model, not with graph: the endpoints of its models look them up")
        return self


class Traffic(Wire):
    """A model version that gets requests."""

    model_version: str
    """Name of the `ModelVersion`."""
    model: str
    version: int
    digest: str
    percent: int = Field(ge=0, le=100)
    format: ModelFormat = "onnx"
    trusted_types: list[str] = Field(default_factory=list)
    """Types in it that the model's owner had approved when it was taken."""
    memory_bytes: int | None = None
    """Memory that a worker of it takes, measured after its warm-up: the most of those that told."""
    peak_bytes: int | None = None
    """The most that it took until then: what is asked for on a node for its next workers."""


class Previous(Traffic):
    """The version that got requests before, kept warm for a way back."""

    since: Timestamp
    """Since when it gets none."""
    attempts: int = 1
    """How often its successor was brought up."""
    restarts: int = 0
    """Of its successor's workers, before they got the traffic."""


class StartTimes(Wire):
    """How long the parts of a worker's start took, in seconds, as the controller saw them and the worker tells."""

    schedule_s: float | None = None
    """From its Pod's being made to its having a node."""
    start_s: float | None = None
    """To its process."""
    fetch_s: float | None = None
    """The model's bytes, verified."""
    load_s: float | None = None
    warm_up_s: float | None = None
    total_s: float | None = None
    """From its Pod's being made to its being ready."""


class Crash(Wire):
    """How a worker's process last ended other than well."""

    reason: str
    """`OOMKilled`, `Killed` (by a signal) or `Failed`."""
    message: str
    at: Timestamp | None = None


class WorkerStatus(Wire):
    """One worker process, as it was last seen."""

    pod: str
    model_version: str
    ready: bool = False
    restarts: int = 0
    runtime: str = ""
    """The library that computes, with its version."""
    provider: str = ""
    """What it computes on: `CPU`, `CUDA`."""
    threads: int | None = None
    memory_bytes: int | None = None
    """After the warm-up; pages that it shares with others are counted in part."""
    peak_bytes: int | None = None
    """At the most until then."""
    warm_up_s: float | None = None
    start: StartTimes | None = None
    last_crash: Crash | None = None


class Candidate(Wire):
    """A version that is being brought up, or was given up."""

    model_version: str
    version: int
    digest: str
    phase: Literal["Starting", "Failed"]
    since: Timestamp
    message: str = ""
    attempts: int = 1
    """How often it was brought up; after each failure it is left alone for longer, from a minute to an hour."""
    failed_on: list[str] = Field(default_factory=list)
    """The nodes on which it did not come up: others are preferred for the next try."""


class NodeStatus(Wire):
    """What a node of a graph serves, and what is on its way: as an endpoint of one model tells it."""

    name: str
    traffic: list[Traffic] = Field(default_factory=list)
    candidate: Candidate | None = None
    ready_replicas: int = 0


class GraphStatus(Wire):
    """A graph as it is served."""

    signature: Signature | None = None
    """What the graph takes and gives, derived from its models."""
    nodes: Annotated[
        list[NodeStatus],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    ] = Field(default_factory=list)
    """The nodes that are models."""


class LoggingStatus(Wire):
    """What became of the requests that were logged."""

    table: str
    """URL of the Delta table."""
    committed: int = 0
    """Records that the writer has brought there since it started."""
    lost: int = 0
    """Records that were not logged for want of room, ever."""
    events_lost: int = 0
    """CloudEvents that their sink did not take."""
    waiting_bytes: int = 0
    """Of records on their way to the table."""
    last_commit: Timestamp | None = None


class InferenceEndpointStatus(Status):
    """What is served, and what is on its way."""

    url: str | None = None
    """Where the endpoint answers: append `/infer`."""
    traffic: list[Traffic] = Field(default_factory=list)
    candidate: Candidate | None = None
    previous: Previous | None = None
    """What is kept warm (`rollout.keepPrevious`)."""
    last_start: StartTimes | None = None
    """Of the worker that was ready last."""
    graph: GraphStatus | None = None
    """Of an endpoint that is a graph."""
    logging: LoggingStatus | None = None
    replicas: int = 0
    """Workers of the version that gets traffic."""
    ready_replicas: int = 0
    selector: str = ""
    """Label selector of the workers, for the scale subresource."""
    scaling: ScalingStatus | None = None
    """Why there are as many workers as there are; absent where the number is fixed."""
    workers: list[WorkerStatus] = Field(default_factory=list)
    """The worker processes of all versions, by name of their Pod; the first fifty."""
    serving: str | None = None
    """The version that gets traffic, for the table of `kubectl get`: `late-arrival:3`."""


class InferenceEndpoint(Resource):
    """A model behind a URL: worker processes of one version, replaced only by one that is loaded and warm."""

    plural: ClassVar[str] = "inferenceendpoints"
    short_names: ClassVar[tuple[str, ...]] = ("ie",)
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn("Model", ".spec.model"),
        PrinterColumn("Serving", ".status.serving"),
        PrinterColumn("Replicas", ".status.readyReplicas", "integer"),
        READY, REASON,
        PrinterColumn("URL", ".status.url", priority=1),
        MESSAGE, AGE,
    )  # fmt: skip
    scale: ClassVar[Scale | None] = Scale(".spec.scaling.replicas", ".status.replicas", ".status.selector")

    kind: Literal["InferenceEndpoint"] = "InferenceEndpoint"
    spec: InferenceEndpointSpec
    status: InferenceEndpointStatus = Field(default_factory=InferenceEndpointStatus)

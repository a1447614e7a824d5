"""Feature views from Python and from the command line: which there are, who uses what, and what is known of an entity.

What a view is and how fresh it is, is asked of the API server; values are read from the online store, as a gateway
reads them.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lightkube.resources.core_v1 import ConfigMap

from mizzen.data.features.columns import US_PER_S
from mizzen.data.features.errors import RequestUnfit, StoreUnavailable
from mizzen.data.features.events import us_of
from mizzen.data.features.online import catalog
from mizzen.data.features.online.layout import HEAD
from mizzen.data.features.online.opening import open_store
from mizzen.data.features.online.reader import OnlineReader
from mizzen.kinds import FeatureView, InferenceEndpoint, ModelVersion, TrainingJob
from mizzen.kinds.names import SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE
from mizzen.kube.client import Client
from mizzen.kube.errors import NotFound
from mizzen.sdk.applying import ApplyError


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of a view, for people."""

    name: str
    type: str
    made_of: str
    default: Any
    description: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a view is made of, and what is made of it."""

    source: str
    source_version: int | None
    uses: tuple[str, ...]
    used_by: tuple[str, ...]
    """Views, trainings and endpoints, as `kind/name`."""
    models: tuple[str, ...]
    """Model versions whose training read it, `model:version`."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an entity at a moment."""

    found: bool
    event_time: datetime | None
    """Of its newest row."""
    version: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Views:
    """The feature views of a namespace."""

    client: Client
    namespace: str

    async def views(self) -> list[FeatureView]:
        """All of them, by name."""
        return sorted((await self.client.list(FeatureView, self.namespace)).items, key=lambda view: view.name)

    async def view(self, name: str) -> FeatureView:
        """Raises `NotFound`."""
        return await self.client.get(FeatureView, name, self.namespace)

    async def lineage(self, name: str) -> Lineage:
        """Raises `NotFound`."""
        view = await self.view(name)
        users = {f"featureview/{other.name}" for other in await self.views() if name in other.spec.uses}
        trainings = (await self.client.list(TrainingJob, self.namespace)).items
        reading = {job.name for job in trainings if name in _taken(job)}
        endpoints = (await self.client.list(InferenceEndpoint, self.namespace)).items
        looking = {
            f"inferenceendpoint/{endpoint.name}"
            for endpoint in endpoints
            if endpoint.spec.features is not None and any(used.view == name for used in endpoint.spec.features.views)
        }
        versions = (await self.client.list(ModelVersion, self.namespace)).items
        models = [
            f"{made.spec.model}:{made.spec.version}" for made in versions if made.spec.lineage.training_job in reading
        ]
        source = view.spec.source
        return Lineage(
            source=f"dataset/{source.dataset}" if source.dataset is not None else f"stream/{source.stream}",
            source_version=view.status.source_version,
            uses=tuple(view.spec.uses),
            used_by=tuple(sorted({*users, *looking, *(f"trainingjob/{job}" for job in reading)})),
            models=tuple(sorted(models)),
        )

    async def values(self, name: str, keys: Sequence[str], at: datetime | None, now: Callable[[], datetime]) -> Known:
        """What is known of an entity, by default now.

        Raises `NotFound`, `RequestUnfit` where the keys are not the view's, `StoreUnavailable` where it is not online.
        """
        await self.view(name)
        try:
            settings = await self.client.get(ConfigMap, SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE)
            url = (settings.data or {})["onlineUrl"]
        except (NotFound, KeyError) as error:
            place = f"ConfigMap {SYSTEM_NAMESPACE}/{SETTINGS_CONFIG_MAP}"
            raise ApplyError(f"{place}: expected data.onlineUrl, found none. `mizzen up` sets it.") from error
        with closing(open_store(url)) as store:
            entry = catalog.served(store, self.namespace, name)
            if entry is None:
                raise StoreUnavailable(
                    f"FeatureView {name} is not in the online store; see `mizzen describe fv {name}`"
                )
            moment = us_of(at or now())
            reader = OnlineReader(store, entry.online_view(), lambda: moment, self.namespace)
            entity = _entity(reader, keys)
            asked = reader.asked([entity])
            read = reader.read(store.get(asked), moment) or reader.read(store.get(reader.asked([entity])), moment)
            assert read is not None, "a view is not filled anew twice in a moment"
            (record,), (found,) = read
        newest = HEAD.unpack_from(record)[0]
        event_time = datetime.fromtimestamp(newest // US_PER_S, UTC) if newest > 0 else None
        version = entry.digest.removeprefix("sha256:")[:12]
        return Known(found, event_time, version, reader.values(record, moment))


def features_of(view: FeatureView) -> list[Feature]:
    """The features of a view in words, with the types that are known once it is online."""
    types = {column.name: column.type for column in view.status.features}
    found = []
    for column in view.spec.columns:
        if isinstance(column, str):
            found.append(Feature(column, types.get(column, ""), "column", None, ""))
            continue
        made_of = column.expression or "column"
        found.append(Feature(column.name, types.get(column.name, ""), made_of, column.default, column.description))
    for aggregation in view.spec.aggregations:
        of = aggregation.expression or aggregation.column or "events"
        where = f" where {aggregation.where}" if aggregation.where else ""
        windows: list[str | None] = [*aggregation.windows] or [aggregation.window]
        for name, window in zip(aggregation.names(), windows, strict=True):
            text = f"{aggregation.function} of {of}{where} in {window or 'all time'}"
            found.append(Feature(name, types.get(name, ""), text, aggregation.default, aggregation.description))
    for asked in view.spec.request:
        text = f"{asked.function}({', '.join(asked.inputs)})"
        found.append(Feature(asked.name, types.get(asked.name, asked.type), text, asked.default, asked.description))
    return found


def _taken(job: TrainingJob) -> list[str]:
    """The views that a training reads."""
    if job.spec.features is None:
        return []
    return [taken if isinstance(taken, str) else taken.view for taken in job.spec.features.views]


def _entity(reader: OnlineReader, keys: Sequence[str]) -> list[Any]:
    """The keys as the view's types have them. Raises `RequestUnfit`."""
    definition, types = reader.view.definition, reader.view.key_types
    if len(keys) != len(types):
        names = ", ".join(key.name for key in definition.keys)
        raise RequestUnfit(f"FeatureView {definition.name}: expected a value for each of {names}, found {len(keys)}")
    try:
        return [int(key) if str(type_) == "int64" else key for key, type_ in zip(keys, types, strict=True)]
    except ValueError as error:
        raise RequestUnfit(f"FeatureView {definition.name}: expected whole numbers, found {', '.join(keys)}") from error

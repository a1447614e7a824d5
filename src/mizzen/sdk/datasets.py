"""Datasets from Python and from the command line: their versions, rows and profiles, and asking for loads.

What a dataset is and which version is served is asked of the API server; rows are read from the store. A load is asked
for by an annotation, which the controller answers with a Job; rows of a `push` source are sent to the push server.
"""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx2
import msgspec
import pyarrow as pa

from mizzen.data.lake.objects import Store
from mizzen.data.lake.profile import without_sketches
from mizzen.data.lake.queries import Difference, difference, query
from mizzen.data.lake.tables import Commit, Table, TableVersion
from mizzen.kinds import Dataset
from mizzen.kinds.meta import condition_named
from mizzen.kinds.names import ANNOTATION_LOAD, LoadRequest
from mizzen.kube.client import Client
from mizzen.kube.informer import Informer
from mizzen.kube.times import format_micro_time
from mizzen.sdk.applying import store_of
from mizzen.sdk.waiting import WaitTimeoutError

ARROW = "application/vnd.apache.arrow.stream"


class DatasetError(Exception):
    """What was asked of a dataset cannot be done; the message says what to do."""


class LoadFailed(DatasetError):
    """The load that was asked for ended without a version."""


@dataclass(frozen=True, slots=True)
class Lake:
    """The tables of a namespace."""

    client: Client
    store: Store
    namespace: str

    @classmethod
    async def of(cls, client: Client, namespace: str | None = None) -> "Lake":
        """The platform's. Raises `ApplyError` where the control plane does not know its store."""
        return cls(client, await store_of(client), namespace or client.namespace)

    async def datasets(self) -> list[Dataset]:
        """The namespace's datasets."""
        return (await self.client.list(Dataset, self.namespace)).items

    def table(self, name: str, *, quarantine: bool = False) -> Table:
        """A dataset's table, or that of the rows its loads set aside."""
        return Table(self.store, self.namespace, name, folder="quarantine" if quarantine else "tables")

    async def version(self, name: str, version: int | None = None, *, quarantine: bool = False) -> TableVersion:
        """A dataset's rows at a version, by default the one that is served. Raises `NotFound`, `VersionMissing`."""
        dataset = await self.client.get(Dataset, name, self.namespace)
        table = self.table(name, quarantine=quarantine)
        return table.at(version if version is not None or quarantine else dataset.status.version)

    async def versions(self, name: str, limit: int | None = None) -> list[Commit]:
        """The versions that are kept, newest first. Raises `NotFound`."""
        await self.client.get(Dataset, name, self.namespace)
        return self.table(name).history(limit)

    async def profile(self, name: str, version: int | None = None) -> dict[str, Any]:
        """The profile kept with a version, without its sketches.

        Raises `NotFound`, `VersionMissing`, `DatasetError` where the version has none.
        """
        found = await self.version(name, version)
        kept = found.attachment.get("profile")
        if kept is None:
            raise DatasetError(f"{name}: version {found.version} was not made by a load, and has no profile")
        return {"dataset": name, "version": found.version, **without_sketches(kept)}

    async def difference(
        self, name: str, before: int, after: int, key: Sequence[str] = (), limit: int = 20
    ) -> Difference:
        """What differs between two versions. Raises `NotFound`, `VersionMissing`, `QueryFailed`."""
        dataset = await self.client.get(Dataset, name, self.namespace)
        table = self.table(name)
        return difference(table.at(before), table.at(after), key or dataset.spec.load.key, limit)

    async def sql(self, text: str) -> pa.Table:
        """The answer to a query over datasets, each at the version that is served, or as `"name@3"`.

        Raises `QueryFailed`, `VersionMissing`, `DatasetError` for a name that is no dataset.
        """
        served = {dataset.name: dataset.status.version for dataset in await self.datasets()}

        def lookup(name: str, version: int | None) -> TableVersion:
            if name not in served:
                known = ", ".join(sorted(served)) or "none"
                raise DatasetError(f"{name}: expected a dataset of namespace {self.namespace} ({known})")
            return self.table(name).at(version if version is not None else served[name])

        return query(text, lookup)

    async def ask(self, name: str, *, full: bool = False, restore: int | None = None) -> str:
        """Asks for a load; the request, by which its answer is known. Raises `NotFound`, `VersionMissing`."""
        if restore is not None:
            self.table(name).at(restore)
        now = format_micro_time(datetime.now(UTC))
        request = str(LoadRequest(full, restore, now))
        body = {"metadata": {"annotations": {ANNOTATION_LOAD: request}}}
        await self.client.patch(Dataset, name, body, namespace=self.namespace)
        return request

    async def answered(self, name: str, request: str, timeout_s: float) -> Dataset:
        """Returns when the request was answered with a version. Raises `LoadFailed`, `WaitTimeoutError`."""
        ended: asyncio.Future[Dataset] = asyncio.get_running_loop().create_future()

        def look(_: Dataset | None, now: Dataset | None) -> None:
            if now is not None and now.status.settled_request == request and not ended.done():
                ended.set_result(now)

        try:
            async with asyncio.timeout(timeout_s):
                async with Informer(self.client, Dataset, self.namespace, fields={"metadata.name": name}) as watching:
                    watching.subscribe(look)
                    found = await ended
        except TimeoutError as error:
            message = f"Dataset {name}: expected the load to end after {timeout_s:g} s; it is still at work"
            raise WaitTimeoutError(message) from error
        report = found.status.last_run
        if report is not None and report.run == found.status.current_run and report.succeeded:
            return found
        conditions = [condition_named(found.status.conditions, type_) for type_ in ("Refreshed", "Loaded")]
        why = next((f"{each.reason}: {each.message}" for each in conditions if each and each.status == "False"), "")
        raise LoadFailed(f"{name}: {why or 'the load ended without a version'}")

    async def push(self, name: str, rows: Any, key: str, url: str | None = None, request: str | None = None) -> int:
        """Sends rows (a table, a data frame, or dicts); how many. They are kept when this returns.

        A request that gets no answer is sent again, under the same key, and counts once. Raises `DatasetError`.
        """
        dataset = await self.client.get(Dataset, name, self.namespace)
        rows_path = f"/v1/namespaces/{self.namespace}/datasets/{name}/rows"
        path = f"{url.rstrip('/')}{rows_path}" if url else dataset.status.push_url
        if path is None:
            raise DatasetError(f"{name}: takes no pushed rows now: `mizzen describe dset {name}` says why")
        content, kind = _body(rows)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": kind}
        headers["Idempotency-Key"] = request or secrets.token_hex(16)
        async with httpx2.AsyncClient(trust_env=False, timeout=30.0) as http:
            answer = await _sent(http, path, content, headers)
        document = answer.json() if "json" in answer.headers.get("content-type", "") else {}
        if answer.status_code != 200:
            problems = "; ".join(document.get("problems") or [document.get("error", answer.reason_phrase)])
            raise DatasetError(f"{name}: {problems}")
        return int(document["rows"])


async def _sent(http: httpx2.AsyncClient, path: str, content: bytes, headers: dict[str, str]) -> httpx2.Response:
    for last in (False, False, True):
        try:
            answer = await http.post(path, content=content, headers=headers)
        except httpx2.HTTPError as error:
            if last:
                raise DatasetError(f"{path}: the push server does not answer: {error}") from error
            continue
        if answer.status_code != 503 or last:
            return answer
    raise AssertionError("the last attempt returns or raises")


def _body(rows: Any) -> tuple[bytes, str]:
    if hasattr(rows, "__arrow_c_stream__"):
        table = pa.table(rows)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return sink.getvalue().to_pybytes(), ARROW
    return msgspec.json.encode([*rows]), "application/json"

"""`mizzen.Client().data`: datasets for Python that blocks.

client.data.sql('SELECT origin, count(*) FROM flights GROUP BY origin').to_pandas()
client.data.rows("flights", version=3).arrow()
client.data.push("transactions", [{"id": 7, "amount": 12.5}], key=key)
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import pyarrow as pa

from mizzen.data.lake.queries import Difference, head
from mizzen.data.lake.tables import Commit, TableVersion
from mizzen.kinds import Dataset
from mizzen.kube.client import Client as KubeClient
from mizzen.sdk.datasets import Lake

T = TypeVar("T")
Run = Callable[..., Any]


class Data:
    """The datasets of a namespace. Methods raise as those of `mizzen.sdk.datasets.Lake` say."""

    def __init__(self, run: Run, namespace: str) -> None:
        self._run, self._namespace = run, namespace

    def __repr__(self) -> str:
        return f"Data(namespace={self._namespace!r})"

    def _ask(self, ask: Callable[[Lake], Awaitable[T]]) -> T:
        async def asked(kube: KubeClient) -> T:
            return await ask(await Lake.of(kube, self._namespace))

        answer: T = self._run(asked)
        return answer

    def ls(self) -> list[Dataset]:
        """The datasets there are."""
        return self._ask(lambda lake: lake.datasets())

    def rows(self, name: str, version: int | None = None) -> TableVersion:
        """A version, by default the one that is served: `.arrow()`, `.pandas()`, `.batches()`, `.duckdb()`."""
        return self._ask(lambda lake: lake.version(name, version))

    def head(self, name: str, rows: int = 10, version: int | None = None) -> pa.Table:
        """The first rows."""
        return head(self.rows(name, version), rows)

    def versions(self, name: str) -> list[Commit]:
        """The versions that are kept, newest first."""
        return self._ask(lambda lake: lake.versions(name))

    def profile(self, name: str, version: int | None = None) -> dict[str, Any]:
        """Nulls, distinct values, quantiles and the most frequent values of each column."""
        return self._ask(lambda lake: lake.profile(name, version))

    def diff(self, name: str, before: int, after: int, key: Sequence[str] = ()) -> Difference:
        """What differs between two versions."""
        return self._ask(lambda lake: lake.difference(name, before, after, key))

    def sql(self, query: str) -> pa.Table:
        """The answer to a query; a dataset is a table under its name, `"name@3"` a version of it."""
        return self._ask(lambda lake: lake.sql(query))

    def load(self, name: str, *, full: bool = False, timeout_s: float = 600.0) -> Dataset:
        """Loads now; returns when the load has ended."""
        return self._ask(lambda lake: _loaded(lake, name, timeout_s, full=full))

    def restore(self, name: str, version: int, *, timeout_s: float = 600.0) -> Dataset:
        """Makes the rows of an older version those of the next one."""
        return self._ask(lambda lake: _loaded(lake, name, timeout_s, restore=version))

    def push(self, name: str, rows: Any, key: str, url: str | None = None) -> int:
        """Sends rows (a table, a data frame, or dicts) to a dataset with a push source; how many were kept."""
        return self._ask(lambda lake: lake.push(name, rows, key, url))


async def _loaded(lake: Lake, name: str, timeout_s: float, **what: Any) -> Dataset:
    request = await lake.ask(name, **what)
    return await lake.answered(name, request, timeout_s)

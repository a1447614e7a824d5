"""Opens what endpoints look up: their views' definitions, and readers of the online store, which they share.

What is heavy to import (PyArrow, DuckDB, the kernel) comes with this module, and so with the first endpoint that has
features.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor

from mizzen.data.features.definition import Definition, definition_of
from mizzen.data.features.errors import DefinitionError, RequestUnfit, StoreUnavailable
from mizzen.data.features.online.lmdb_store import LmdbStore
from mizzen.data.features.online.opening import open_store, open_view
from mizzen.data.features.online.reader import OnlineReader
from mizzen.data.features.online.store import OnlineStore
from mizzen.kinds.features import FeatureView
from mizzen.serving.gateway.directory import Lookup as Wanted
from mizzen.serving.gateway.directory import View, ViewUse
from mizzen.serving.gateway.features.columns import used
from mizzen.serving.gateway.features.lookup import Looked, Lookup
from mizzen.serving.gateway.features.stage import Reads, Stage
from mizzen.serving.gateway.measures import Measures


def _definition(view: View) -> Definition:
    metadata = {"name": view.name, "namespace": view.namespace}
    try:
        read = FeatureView.model_validate({"metadata": metadata, "spec": view.spec})
    except ValueError as error:
        raise DefinitionError(f"FeatureView {view.name}: {error}") from error
    return definition_of(read)


class Opening:
    """The online store and its readers, as this process has them. Its methods may be called from any thread."""

    def __init__(
        self,
        url: str,
        now_us: Callable[[], int],
        clock: Callable[[], float],
        store: OnlineStore | None = None,
        executor: Executor | None = None,
    ) -> None:
        """`store` is the one at the URL, where it is open already; `executor` reads one that is elsewhere."""
        self._url, self._now_us, self._clock = url, now_us, clock
        self._store, self._executor = store, executor
        self._reads: Reads | None = None
        self._readers: dict[tuple[str, str, str], OnlineReader] = {}
        self._lock = threading.Lock()

    def stage(self, namespace: str, wanted: Wanted, views: Mapping[str, View], measures: Measures) -> Stage:
        """What an endpoint looks up.

        Raises `FeatureError` where it cannot be had, for now or as it is declared.
        """
        with self._lock:
            store, reads = self._opened()
            looked = [self._looked(store, namespace, use, views) for use in wanted.views]
            return Stage(Lookup(store, looked, self._now_us, measures), reads, wanted.columns, measures, self._clock)

    def close(self) -> None:
        """Lets go of the store."""
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None

    def _opened(self) -> tuple[OnlineStore, Reads]:
        if self._store is None:
            try:
                self._store = open_store(self._url)
            except ValueError as error:
                raise StoreUnavailable(f"the gateway's online store: {error}") from error
        if self._reads is None:
            self._reads = Reads(self._store, at_once=isinstance(self._store, LmdbStore), executor=self._executor)
        return self._store, self._reads

    def _looked(self, store: OnlineStore, namespace: str, use: ViewUse, views: Mapping[str, View]) -> Looked:
        declared = views.get(use.view)
        if declared is None:
            raise RequestUnfit(f"features: there is no FeatureView {use.view} in namespace {namespace}")
        definition = _definition(declared)
        if use.version is not None and use.version != definition.version:
            raise RequestUnfit(
                f"features: expected FeatureView {use.view} at version {use.version}, found {definition.version}: "
                "train the model anew, or declare the view as it was"
            )
        reader = self._reader(store, namespace, definition)
        return Looked(used(use, reader.view), reader)

    def _reader(self, store: OnlineStore, namespace: str, definition: Definition) -> OnlineReader:
        key = (namespace, definition.name, definition.digest)
        if key not in self._readers:
            view = open_view(store, namespace, definition)
            self._readers[key] = OnlineReader(store, view, self._now_us, namespace)
        return self._readers[key]

"""Opens what endpoints look up: readers of the online store, which they share. Which version of a view is served, and
what it is, the store itself tells.

What is heavy to import (PyArrow, DuckDB, the kernel) comes with this module, and so with the first endpoint that has
features.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

from mizzen.data.features.errors import RequestUnfit, StoreUnavailable
from mizzen.data.features.online import catalog
from mizzen.data.features.online.catalog import Entry
from mizzen.data.features.online.lmdb_store import LmdbStore
from mizzen.data.features.online.opening import open_store
from mizzen.data.features.online.reader import OnlineReader
from mizzen.data.features.online.store import OnlineStore
from mizzen.serving.gateway.directory import Lookup as Wanted
from mizzen.serving.gateway.directory import ViewUse
from mizzen.serving.gateway.features.audit import ReadsRecorder
from mizzen.serving.gateway.features.columns import used
from mizzen.serving.gateway.features.lookup import Looked, Lookup
from mizzen.serving.gateway.features.source import FunctionsOf
from mizzen.serving.gateway.features.stage import Reads, Stage
from mizzen.serving.gateway.measures import Measures

VERSION_DIGITS = 12


class Opening:
    """The online store and its readers, as this process has them. Its methods may be called from any thread."""

    def __init__(
        self,
        url: str,
        now_us: Callable[[], int],
        clock: Callable[[], float],
        store: OnlineStore | None = None,
        executor: Executor | None = None,
        log_folder: Path | None = None,
        audited: Callable[[str, str], float] = lambda _namespace, _view: 0.0,
    ) -> None:
        """`store` is the one at the URL, where it is open already; `executor` reads one that is elsewhere. Of a view
        (namespace, name) reads of the share `audited` of entities are recorded in `log_folder`, where that is given.
        """
        self._log_folder, self._audited = log_folder, audited
        self._audits: dict[tuple[str, str, str], ReadsRecorder] = {}
        self._url, self._now_us, self._clock = url, now_us, clock
        self._store, self._executor = store, executor
        self._reads: Reads | None = None
        self._readers: dict[tuple[str, str, str], OnlineReader] = {}
        self._lock = threading.Lock()

    def stage(self, namespace: str, wanted: Wanted, measures: Measures, functions: FunctionsOf) -> Stage:
        """What an endpoint looks up.

        Raises `FeatureError` where it cannot be had, for now or as it is declared.
        """
        with self._lock:
            store, reads = self._opened()
            looked = [self._looked(store, namespace, use) for use in wanted.views]
            lookup = Lookup(store, looked, self._now_us, measures)
            return Stage(namespace, lookup, reads, wanted.columns, wanted.time, functions, measures, self._clock)

    def close(self) -> None:
        """Lets go of the store."""
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None
            for audit in self._audits.values():
                audit.close()

    def _opened(self) -> tuple[OnlineStore, Reads]:
        if self._store is None:
            try:
                self._store = open_store(self._url)
            except ValueError as error:
                raise StoreUnavailable(f"the gateway's online store: {error}") from error
        if self._reads is None:
            self._reads = Reads(self._store, at_once=isinstance(self._store, LmdbStore), executor=self._executor)
        return self._store, self._reads

    def _looked(self, store: OnlineStore, namespace: str, use: ViewUse) -> Looked:
        entry = _entry(store, namespace, use.view, use.version)
        key = (namespace, use.view, entry.digest)
        if key not in self._readers:
            self._readers[key] = OnlineReader(store, entry.online_view(), self._now_us, namespace)
        reader = self._readers[key]
        return Looked(used(use, reader.view), reader, entry.digest, self._audit(key, reader))

    def _audit(self, key: tuple[str, str, str], reader: OnlineReader) -> ReadsRecorder | None:
        """Who records reads of a version of a view."""
        namespace, view, digest = key
        sample = self._audited(namespace, view)
        if self._log_folder is None or sample <= 0:
            return None
        if key not in self._audits:
            self._audits[key] = ReadsRecorder(self._log_folder, namespace, reader, digest, sample, self._clock)
        self._audits[key].sample = sample
        return self._audits[key]


def _entry(store: OnlineStore, namespace: str, name: str, version: str | None) -> Entry:
    """The version of a view that is served, or the one asked for. Raises `StoreUnavailable`, `RequestUnfit`."""
    complete = [entry for entry in catalog.entries(store, namespace, name) if entry.complete]
    if not complete:
        raise StoreUnavailable(f"FeatureView {name} of namespace {namespace} is not in the online store yet")
    if version is None:
        return complete[0]
    for entry in complete:
        if entry.digest.removeprefix("sha256:").startswith(version):
            return entry
    there = ", ".join(entry.digest.removeprefix("sha256:")[:VERSION_DIGITS] for entry in complete)
    raise RequestUnfit(
        f"features: expected FeatureView {name} at version {version}, found {there}: train the model anew, or declare "
        "the view as it was"
    )

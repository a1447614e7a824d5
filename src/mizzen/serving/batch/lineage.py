"""OpenLineage events of a run: that it began, and how it ended, with input, model and output."""

import logging
from collections.abc import Sequence

from mizzen.data.lake.objects import Store, hex_of
from mizzen.data.lake.tables import Table
from mizzen.data.openlineage import (
    EventType,
    Json,
    Told,
    dataset_name,
    done,
    facet,
    input_of,
    output_of,
    run_event,
    tell_of,
    teller_of,
)
from mizzen.kinds.data import LoadReport
from mizzen.serving.batch.task import BatchTask, Clock

log = logging.getLogger("mizzen.batch")


class Lineage:
    """Tells of one run, where the platform's settings say where to."""

    def __init__(self, task: BatchTask, store: Store, clock: Clock) -> None:
        self._task, self._store, self._clock = task, store, clock
        try:
            self._tell = teller_of(task.lineage_url)
        except ValueError as error:
            log.warning("%s", error)
            self._tell = teller_of(None)

    def began(self) -> None:
        self._event("START")

    def failed(self, message: str) -> None:
        self._event("FAIL", error=message)

    def made(self, report: LoadReport, kept: Sequence[str], asked: Sequence[str]) -> None:
        """The version; `kept` are the columns it has of the input, and its others come of those `asked`."""
        self._event("COMPLETE", report, self._columns(report, kept, asked))

    def _event(
        self, type_: EventType, report: LoadReport | None = None, columns: Json | None = None, error: str = ""
    ) -> None:
        task = self._task
        of = Told(task.namespace, task.run, f"batchprediction.{task.name}", "PREDICTION")

        def event() -> Json:
            output = output_of(self._table(task.output.dataset).location, report, columns or {})
            return run_event(of, type_, self._clock(), [self._rows(), self._model()], output, error)

        tell_of(self._tell, event)

    def _table(self, name: str) -> Table:
        return Table(self._store, self._task.namespace, name)

    def _rows(self) -> Json:
        return input_of(self._table(self._task.input.name).location, self._task.input.version)

    def _model(self) -> Json:
        model = self._task.model
        ending = "onnx" if self._task.format == "onnx" else "model.json"
        version = facet("DatasetVersionDatasetFacet", "1-0-1", datasetVersion=model.digest)
        url = self._store.url_of(f"models/sha256/{hex_of(model.digest)}.{ending}")
        return {**dataset_name(url), "facets": {"version": version}}

    def _columns(self, report: LoadReport, kept: Sequence[str], asked: Sequence[str]) -> Json:
        place = dataset_name(self._table(self._task.input.name).location)
        fields: Json = {}
        for name in (column.name for column in report.columns):
            origins = [name] if name in kept else asked
            how = done("IDENTITY" if name in kept else "TRANSFORMATION")
            fields[name] = {"inputFields": [{**place, "field": origin, **how} for origin in sorted(origins)]}
        return fields

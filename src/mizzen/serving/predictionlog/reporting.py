"""How each endpoint's log stands, said on the endpoint: `status.logging` and the condition `PredictionsLogged`."""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from mizzen.kinds import InferenceEndpoint
from mizzen.kinds.meta import Condition, condition_named, with_condition
from mizzen.kinds.serve import LoggingStatus
from mizzen.kube.client import Client
from mizzen.kube.errors import ApiError
from mizzen.kube.times import format_time
from mizzen.serving.predictionlog.layout import table_path
from mizzen.serving.predictionlog.progress import Written

log = logging.getLogger("mizzen.predictionlog")
PREDICTIONS_LOGGED = "PredictionsLogged"
LOSS_SHOWN = timedelta(minutes=10)
"""How long a loss stays in the condition."""
FIELD_MANAGER = "mizzen-predictionlog"


class Reporter:
    """Writes what the writer has done into the API."""

    def __init__(
        self, client: Client, store_url: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._client, self._store_url, self._clock = client, store_url, clock
        self._lost_at: dict[tuple[str, str], datetime] = {}
        """When records of an endpoint were last lost, as far as was seen."""

    async def __call__(self, news: Sequence[Written]) -> None:
        """Says the news. What cannot be said now is said with the next."""
        for written in news:
            try:
                await self._tell(written)
            except (ApiError, OSError) as error:
                log.debug("%s/%s: %s", written.namespace, written.endpoint, error)

    async def _tell(self, written: Written) -> None:
        endpoint = await self._client.get(InferenceEndpoint, written.endpoint, written.namespace)
        location = f"{self._store_url}/{table_path(written.namespace, written.endpoint)}"
        before = endpoint.status.logging
        if endpoint.spec.logging is None and before is None:
            return
        logging_ = status_of(written, location)
        new = condition_of(
            written, format_time(self._clock()), endpoint.metadata.generation,
            losing=self._is_losing(written, before.lost if before is not None else 0),
        )  # fmt: skip
        known = condition_named(endpoint.status.conditions, PREDICTIONS_LOGGED)
        if before == logging_ and known is not None and (known.reason, known.message) == (new.reason, new.message):
            return
        conditions = [c.to_wire() for c in with_condition(endpoint.status.conditions, new)]
        body = {
            "metadata": {"resourceVersion": endpoint.metadata.resource_version},
            "status": {"logging": logging_.to_wire(), "conditions": conditions},
        }
        await self._client.patch(
            InferenceEndpoint, written.endpoint, body, namespace=written.namespace, subresource="status",
            field_manager=FIELD_MANAGER,
        )  # fmt: skip

    def _is_losing(self, written: Written, lost_before: int) -> bool:
        """Whether records were lost of late."""
        key, now = (written.namespace, written.endpoint), self._clock()
        if written.lost > lost_before:
            self._lost_at[key] = now
        last = self._lost_at.get(key)
        return last is not None and now - last < LOSS_SHOWN


def status_of(written: Written, location: str) -> LoggingStatus:
    """`status.logging`."""
    at = format_time(datetime.fromtimestamp(written.committed_at_s, UTC)) if written.committed_at_s else None
    return LoggingStatus(
        table=location,
        committed=written.committed,
        lost=written.lost,
        events_lost=written.events_lost,
        waiting_bytes=written.waiting_bytes,
        last_commit=at,
    )


def condition_of(written: Written, now: str, generation: int | None, *, losing: bool) -> Condition:
    """Whether records get to the table, and whether some were lost of late."""
    status: Literal["True", "False"]
    if written.trouble:
        status, reason, message = "False", "TableUnavailable", written.trouble
    elif losing:
        status, reason = "False", "RecordsLost"
        message = f"records found no room and were not logged: {written.lost} in all"
    else:
        status, reason = "True", "Written"
        message = f"records are in the table; {written.lost} were lost" if written.lost else "records are in the table"
    return Condition(
        type=PREDICTIONS_LOGGED, status=status, reason=reason, message=message[:1000], last_transition_time=now,
        observed_generation=generation,
    )  # fmt: skip

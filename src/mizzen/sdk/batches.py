"""Batch predictions from Python and from the command line: asking for a run, and seeing it to its end."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from mizzen.kinds import BatchPrediction
from mizzen.kinds.batch import BatchRun
from mizzen.kinds.meta import condition_named
from mizzen.kinds.names import ANNOTATION_RUN
from mizzen.kube.client import Client
from mizzen.kube.informer import Informer
from mizzen.kube.times import format_micro_time
from mizzen.sdk.waiting import WaitTimeoutError


class RunFailed(Exception):
    """The run that was asked for ended without a version, or cannot begin; the message says why."""


async def ask(client: Client, name: str, namespace: str) -> str:
    """Asks for a run beyond those of spec and schedule; the request, by which it is known. Raises `NotFound`."""
    request = format_micro_time(datetime.now(UTC))
    body = {"metadata": {"annotations": {ANNOTATION_RUN: request}}}
    await client.patch(BatchPrediction, name, body, namespace=namespace)
    return request


def run_of(batch: BatchPrediction, request: str) -> BatchRun | None:
    """The run that a request asked for; `None` while there is none."""
    return next((run for run in batch.status.runs if run.occasion == f"asked {request}"), None)


async def ended(
    client: Client, name: str, namespace: str, request: str, timeout_s: float, on_change: Callable[[str], None]
) -> BatchRun:
    """Returns the run when it has succeeded; `on_change` hears how it goes, in words.

    Raises `RunFailed`, and `WaitTimeoutError` where it is still at work after that time.
    """
    end: asyncio.Future[BatchRun] = asyncio.get_running_loop().create_future()
    said = ""

    def look(_: BatchPrediction | None, now: BatchPrediction | None) -> None:
        nonlocal said
        if now is None or end.done():
            return
        run = run_of(now, request)
        if run is not None and not run.active:
            end.set_result(run)
            return
        what = _how(now, run)
        if what != said:
            said = what
            on_change(what)

    try:
        async with asyncio.timeout(timeout_s):
            async with Informer(client, BatchPrediction, namespace, fields={"metadata.name": name}) as watching:
                watching.subscribe(look)
                run = await end
    except TimeoutError as error:
        message = f"BatchPrediction {name}: expected the run to end after {timeout_s:g} s: {said or 'it has not begun'}"
        raise WaitTimeoutError(message) from error
    if run.phase != "Succeeded":
        raise RunFailed(f"{name}: {run.reason or run.phase}: {run.message}")
    return run


def _how(batch: BatchPrediction, run: BatchRun | None) -> str:
    """What there is to say of a run that has not ended."""
    inputs = condition_named(batch.status.conditions, "InputsReady")
    if run is None:
        waits = inputs is not None and inputs.status == "False"
        return f"{inputs.reason}: {inputs.message}" if waits and inputs is not None else "asked for"
    found = batch.status.progress
    if found is None or not found.rows_done:
        return run.message or run.phase
    return f"{found.percent} %, {found.rows_per_s:.0f} rows/s{', ' + found.waits if found.waits else ''}"

"""`mizzen simulate scaling`: the scaling policies over recorded arrivals."""

from pathlib import Path
from typing import Annotated

import typer

from mizzen.cli import output
from mizzen.cli.failures import USAGE, CommandError
from mizzen.kinds.scalars import duration_s
from mizzen.simulate import tables
from mizzen.simulate.comparing import compare
from mizzen.simulate.plot import svg
from mizzen.simulate.scenario import POLICIES, Scenario
from mizzen.simulate.traces import Counts, TraceError, load_times, read

app = typer.Typer(help="Decide on virtual time, over what was recorded.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Decide on virtual time, over what was recorded."""


def _seconds(option: str, text: str) -> float:
    try:
        return duration_s(text)
    except ValueError as error:
        raise CommandError(f"--{option}: {error}, got {text!r}", USAGE) from error


@app.command()
def scaling(
    trace: Annotated[Path, typer.Option(help="Recorded arrivals: see docs/scaling-simulations.md for the formats.")],
    policies: Annotated[str, typer.Option(help="Which to compare, comma separated.")] = ",".join(POLICIES),
    slots: Annotated[int, typer.Option(help="Requests that a worker runs at a time.", min=1)] = 1,
    service_time: Annotated[str, typer.Option(help="Of a request, where the trace does not say.")] = "100ms",
    time_to_ready: Annotated[str, typer.Option(help="From a worker's being asked for to its being ready.")] = "30s",
    load_time_file: Annotated[
        Path | None, typer.Option(help="Measured starts instead: a CSV, column value, ms.")
    ] = None,
    late_after: Annotated[str, typer.Option(help="A request that waits longer for a worker is late.")] = "1s",
    timeout: Annotated[str, typer.Option(help="A request that has waited so long goes unanswered.")] = "30s",
    utilisation: Annotated[float, typer.Option(help="How busy a worker should be.", min=0.01, max=1.0)] = 0.7,
    min_replicas: Annotated[int, typer.Option(help="Never fewer workers.", min=0)] = 1,
    max_replicas: Annotated[int, typer.Option(help="Never more workers.", min=1, max=1000)] = 1000,
    scale_to_zero_after: Annotated[str | None, typer.Option(help="By default learned from idle times.")] = None,
    standard_keep: Annotated[str, typer.Option(help="How long an idle worker stays while nothing is learned.")] = "5m",
    seed: Annotated[int, typer.Option(help="Of the measured starts that are drawn.")] = 7,
    plot: Annotated[Path | None, typer.Option(help="Also draw it: a file ending in .svg.")] = None,
    form: Annotated[str, typer.Option("--output", "-o", help="table, markdown or json.")] = "table",
) -> None:
    """Compare scaling policies: worker-seconds, cold starts and late requests of each."""
    names = [name.strip() for name in policies.split(",")]
    unknown = [name for name in names if name not in POLICIES]
    if unknown or form not in {"table", "markdown", "json"}:
        found, expected = (unknown[0], POLICIES) if unknown else (form, ("table", "markdown", "json"))
        raise CommandError(f"expected one of {', '.join(expected)}, got {found!r}", USAGE)
    if min_replicas > max_replicas:
        raise CommandError(
            f"--max-replicas: expected at least --min-replicas ({min_replicas}), got {max_replicas}", USAGE
        )
    if plot is not None and plot.suffix != ".svg":
        raise CommandError(f"--plot: expected a file ending in .svg, got {plot}", USAGE)
    try:
        recorded = read(trace)
        starts = load_times(load_time_file) if load_time_file is not None else []
    except (TraceError, OSError) as error:
        raise CommandError(str(error), USAGE) from error
    service_s = _seconds("service-time", service_time)
    if service_s <= 0:
        raise CommandError(f"--service-time: expected more than 0s, got {service_time}", USAGE)
    keep = scale_to_zero_after
    scenario = Scenario(
        slots=slots, service_s=service_s, time_to_ready_s=_seconds("time-to-ready", time_to_ready),
        load_times_s=starts, wait_s_max=_seconds("late-after", late_after), timeout_s=_seconds("timeout", timeout),
        utilisation=utilisation, min_replicas=min_replicas, max_replicas=max_replicas,
        scale_to_zero_after_s=_seconds("scale-to-zero-after", keep) if keep is not None else None,
        standard_keep_s=_seconds("standard-keep", standard_keep), seed=seed,
    )  # fmt: skip
    outcomes = compare(recorded, scenario, names)
    if plot is not None:
        plot.write_text(svg(outcomes, trace.name), encoding="utf-8")
    if form == "json":
        output.document(tables.document(outcomes), "json")
    elif form == "markdown":
        print(tables.markdown(outcomes), end="")
    else:
        size = (
            f"{sum(recorded.counts):,} requests in {len(recorded.counts) / 86400:.2f} days"
            if isinstance(recorded, Counts)
            else f"{sum(len(came) for came, _ in recorded.endpoints.values()):,} requests to "
            f"{len(recorded.endpoints)} endpoints in {recorded.seconds / 86400:.2f} days"
        )
        print(f"{trace.name}: {size}")
        output.table(tables.HEADERS, tables.rows(outcomes))

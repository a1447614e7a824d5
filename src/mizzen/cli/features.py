"""`mizzen features`: which features there are, what they are made of, who uses them, and what is known of an entity."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from mizzen.cli import options, output
from mizzen.cli.failures import NOT_FOUND, USAGE, CommandError
from mizzen.data.features.errors import RequestUnfit, StoreUnavailable
from mizzen.kinds import FeatureView
from mizzen.kinds.meta import condition_named
from mizzen.sdk.applying import ApplyError
from mizzen.sdk.views import Known, Lineage, Views, features_of

app = typer.Typer()
features = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(features, name="features", help="Features: what there is, lineage, freshness, values.")
T = TypeVar("T")

Name = Annotated[str, typer.Argument(help="The feature view.")]
Form = Annotated[str, typer.Option("--output", "-o", help="table or json.")]


def _asked(kubeconfig: Path | None, namespace: str | None, ask: Callable[[Views], Awaitable[T]]) -> T:
    """What `ask` finds; its failures in words."""

    async def run() -> T:
        async with options.connected(kubeconfig) as client:
            return await ask(Views(client, namespace or client.namespace))

    try:
        return options.run(run)
    except StoreUnavailable as error:
        raise CommandError(str(error), NOT_FOUND) from error
    except (RequestUnfit, ApplyError) as error:
        raise CommandError(str(error), USAGE) from error


def _expect_form(form: str) -> None:
    if form not in {"table", "json"}:
        raise CommandError(f"--output: expected table or json, got {form}", USAGE)


def _document(value: Any) -> None:
    output.document(msgspec.json.decode(msgspec.json.encode(value)), "json")


def _age(moment: str | None) -> str:
    """How long ago that was, for people."""
    if moment is None:
        return ""
    seconds = max(0, round((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _keys(view: FeatureView) -> list[str]:
    return [entity if isinstance(entity, str) else entity.name for entity in view.spec.entities]


@features.command("ls")
def ls(
    find: Annotated[str | None, typer.Argument(help="Only features whose name or description has this text.")] = None,
    form: Form = "table",
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """The views, or with a text the features that have it in their name, their description or their owner."""
    _expect_form(form)
    found = _asked(kubeconfig, namespace, lambda views: views.views())
    if find is not None:
        _found(found, find.casefold(), form)
        return
    rows: list[dict[str, Any]] = []
    for view in found:
        status, ready = view.status, condition_named(view.status.conditions, "Ready")
        rows.append({
            "name": view.name, "keys": ", ".join(_keys(view)), "features": len(view.spec.feature_names()),
            "version": status.version, "entities": status.entities, "newestEvent": status.newest_event,
            "lag": status.lag, "usedBy": len(status.used_by), "owner": view.spec.owner,
            "ready": ready.status if ready is not None else "", "reason": ready.reason if ready is not None else "",
        })  # fmt: skip
    if form == "json":
        _document(rows)
        return
    headers = (
        "name",
        "keys",
        "features",
        "version",
        "entities",
        "newest",
        "lag",
        "used by",
        "owner",
        "ready",
        "reason",
    )
    output.table(headers, [[*({**row, "newestEvent": _age(row["newestEvent"])}.values())] for row in rows])


def _found(views: list[FeatureView], text: str, form: str) -> None:
    rows = [
        {"feature": f"{view.name}:{one.name}", "type": one.type, "madeOf": one.made_of, "owner": view.spec.owner,
         "description": one.description}
        for view in views for one in features_of(view)
        if text in f"{one.name} {one.description} {view.name} {view.spec.owner} {view.spec.description}".casefold()
    ]  # fmt: skip
    if form == "json":
        _document(rows)
    else:
        output.table(("feature", "type", "made of", "owner", "description"), [[*row.values()] for row in rows])


@features.command("describe")
def describe(
    name: Name, form: Form = "table", namespace: options.Namespace = None, kubeconfig: options.Kubeconfig = None
) -> None:
    """A view's features: their types, what they are made of, and how fresh they are."""
    _expect_form(form)
    view = _asked(kubeconfig, namespace, lambda views: views.view(name))
    status, skew = view.status, view.status.skew
    facts = {
        "name": view.name, "keys": _keys(view), "description": view.spec.description, "owner": view.spec.owner,
        "tags": view.spec.tags, "version": status.version, "ttl": view.spec.ttl, "entities": status.entities,
        "events": status.rows, "newestEvent": status.newest_event, "sourceVersion": status.source_version,
        "lag": status.lag, "usedBy": status.used_by,
        "skew": None if skew is None or not skew.values else skew.differing / skew.values,
        "features": [
            {"name": one.name, "type": one.type, "madeOf": one.made_of, "default": one.default,
             "description": one.description}
            for one in features_of(view)
        ],
    }  # fmt: skip
    if form == "json":
        _document(facts)
        return
    for title, value in facts.items():
        if title != "features" and value not in (None, "", [], {}):
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            output.console.print(f"{title + ':':<15}{shown}")
    headers = ("feature", "type", "made of", "default", "description")
    output.table(headers, [[*one.values()] for one in facts["features"]])  # type: ignore[union-attr]


@features.command("lineage")
def lineage(
    name: Name, form: Form = "table", namespace: options.Namespace = None, kubeconfig: options.Kubeconfig = None
) -> None:
    """What a view is made of, who uses it, and which models were trained on it."""
    _expect_form(form)
    found: Lineage = _asked(kubeconfig, namespace, lambda views: views.lineage(name))
    if form == "json":
        _document(found)
        return
    version = "" if found.source_version is None else f"@{found.source_version}"
    rows = [("made of", f"{found.source}{version}"), *(("uses", f"featureview/{view}") for view in found.uses)]
    rows += [("used by", user) for user in found.used_by]
    rows += [("trained on by", model) for model in found.models]
    output.table(("relation", "what"), rows)


@features.command("values")
def values(
    name: Name,
    keys: Annotated[list[str], typer.Argument(help="The entity: a value for each of the view's keys.")],
    at: Annotated[str | None, typer.Option(help="As of this time (RFC 3339); default: now.")] = None,
    form: Form = "table",
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """What is known of an entity, as an endpoint would get it."""
    _expect_form(form)
    moment = _moment(at)
    found: Known = _asked(
        kubeconfig, namespace, lambda views: views.values(name, keys, moment, lambda: datetime.now(UTC))
    )
    if form == "json":
        _document(found)
        return
    if not found.found:
        output.errors.print(f"{name} has not seen {', '.join(keys)}: these are its values for nobody")
    output.table(("feature", "value"), [(feature, _shown(value)) for feature, value in found.values.items()])


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"--at: expected a time such as 2026-01-31T12:00:00Z, got {text!r}", USAGE) from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)

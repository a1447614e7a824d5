"""The command `mizzen`: one module for each family of commands, imported when one of its commands is used.

`COMMANDS` is the table of what there is; `--help` reads its words from here, so that asking for help imports nothing.
"""

import importlib
from typing import Any

import typer
from typer.core import TyperGroup

from mizzen.cli import failures

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("lifecycle", "Bring Mizzen up on this machine"),
    "down": ("lifecycle", "End everything that `up` started"),
    "status": ("lifecycle", "What is up, where, and how the resources are"),
    "doctor": ("lifecycle", "What is wrong with this machine or home, and what to do"),
    "version": ("lifecycle", "Print the version"),
    "demo": ("demo", "Real flights: dataset, model, endpoint, and a month of traffic"),
    "apply": ("objects", "Make resources as a file says"),
    "diff": ("objects", "What `apply` would change"),
    "get": ("objects", "List resources, or show one"),
    "describe": ("objects", "One resource in words, with its conditions and events"),
    "delete": ("objects", "Delete resources"),
    "wait": ("objects", "Wait for a condition"),
    "events": ("objects", "What happened lately"),
    "logs": ("logs", "What the Pods of a resource print"),
    "predict": ("predict", "Ask an endpoint"),
    "labels": ("labels", "Say what turned out to be true of logged requests"),
    "top": ("top", "A live view of endpoints: rate, latency, queue, errors"),
    "token": ("token", "API keys of endpoints"),
    "models": ("models", "Register models, move aliases"),
    "data": ("data", "Datasets: rows, profiles, versions, SQL, restore, forget"),
    "batch": ("batch", "Run a batch prediction now"),
    "features": ("features", "Features: what there is, lineage, freshness, values"),
    "bundle": ("models", "Store a project folder; print its digest"),
    "simulate": ("simulate", "The scaling policies over recorded arrivals"),
    "crds": ("parts", "Print the CustomResourceDefinitions to apply to a cluster"),
    "controllers": ("parts", "Run the controllers against a control plane"),
    "node": ("parts", "Run a node against a control plane"),
    "gateway": ("parts", "Run a gateway against a control plane"),
    "predictions": ("parts", "Run the prediction log's writer against a control plane"),
    "push-server": ("parts", "Run a push server against a control plane"),
}


class _LazyGroup(TyperGroup):
    """Knows its commands by name and imports their module only when one is used."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the base class's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the base class's signature
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command: Any = typer.main.get_command(importlib.import_module(f"mizzen.cli.{module}").app)
        return getattr(command, "commands", {}).get(cmd_name, command)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - the base class's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in COMMANDS.items()])


app = typer.Typer(
    cls=_LazyGroup,
    name="mizzen",
    help="The whole machine-learning platform: declared as resources, true on this machine or a cluster.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root() -> None:
    """The commands are in `COMMANDS`."""


def main() -> None:
    """The entry point: known failures are said in one line, with an exit code that scripts can use."""
    with failures.said_in_words():
        app()

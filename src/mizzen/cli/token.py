"""`mizzen token`: API keys of endpoints."""

from pathlib import Path
from typing import Annotated

import typer

from mizzen.cli import options, output
from mizzen.sdk import keys

app = typer.Typer()
token = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(token, name="token", help="API keys of endpoints.")


@token.command()
def create(
    name: Annotated[str, typer.Argument(help="What to call the key.")],
    endpoint: Annotated[list[str] | None, typer.Option("--endpoint", "-e", help="Opens this one only.")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", help="Rows may be sent to this one (*: to all); no endpoint opens.")
    ] = None,
    feature_view: Annotated[
        list[str] | None,
        typer.Option("--features", help="This view's features may be read (*: all views'); no endpoint opens."),
    ] = None,
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """Make a key and print it, once. With none of --endpoint, --dataset and --features it opens every endpoint of the
    namespace.
    """
    scoped = dataset or feature_view
    opened = tuple(endpoint or () if scoped else endpoint or (keys.ALL_ENDPOINTS,))

    async def make() -> str:
        async with options.connected(kubeconfig) as client:
            return await keys.create(
                client, name, namespace or client.namespace, opened, tuple(dataset or ()), tuple(feature_view or ())
            )

    print(options.run(make))


@token.command("list")
def list_(
    namespace: options.Namespace = None,
    all_namespaces: options.AllNamespaces = False,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """The keys there are: their names and what they open, never the keys themselves."""
    found = options.run(_list, kubeconfig, namespace, all_namespaces)
    rows = [(key.namespace, key.name, ", ".join(key.endpoints), key.created) for key in found]
    output.table(("namespace", "name", "endpoints", "created"), rows)


async def _list(kubeconfig: Path | None, namespace: str | None, everywhere: bool) -> list[keys.ApiKey]:
    async with options.connected(kubeconfig) as client:
        return await keys.list_keys(client, None if everywhere else namespace or client.namespace)


@token.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """Take a key away: gateways refuse it from the moment they hear of it."""
    options.run(_revoke, kubeconfig, name, namespace)
    print(f"{name} revoked")


async def _revoke(kubeconfig: Path | None, name: str, namespace: str | None) -> None:
    async with options.connected(kubeconfig) as client:
        await keys.revoke(client, name, namespace or client.namespace)

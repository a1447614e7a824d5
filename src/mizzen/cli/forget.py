"""`mizzen data forget`: an entity taken out of everything, with a receipt."""

from typing import Annotated

import msgspec
import typer

from mizzen.cli import options
from mizzen.cli.failures import NO, USAGE, CommandError
from mizzen.data.features.errors import FeatureError
from mizzen.data.forgetting import Receipt
from mizzen.data.lake.errors import LakeError
from mizzen.sdk.applying import ApplyError
from mizzen.sdk.forgetting import forget_everywhere


def forget(
    key: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="The entity's keys: card=card-7.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Without asking.")] = False,
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """Take an entity out of tables, training sets, prediction logs and the online store; print the receipt.

    Versions that held it are no longer kept. Ends with 1 where something is still to come, which the receipt names.
    """
    entity = _entity(key)
    if not yes:
        typer.confirm(f"Forget {' '.join(key)}? The history of every table that has it goes", abort=True, err=True)

    async def ask() -> Receipt:
        async with options.connected(kubeconfig) as client:
            return await forget_everywhere(client, namespace or client.namespace, entity)

    try:
        receipt = options.run(ask)
    except ApplyError as error:
        raise CommandError(str(error), USAGE) from error
    except (LakeError, FeatureError) as error:
        raise CommandError(str(error)) from error
    print(msgspec.json.format(msgspec.json.encode(receipt), indent=2).decode())
    if not receipt.complete:
        raise CommandError("something is still to come, which the receipt calls pending: forget once more then", NO)


def _entity(words: list[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise CommandError(f"expected KEY=VALUE, found {name}{equals}{value}", USAGE)
    return {name: value for name, _, value in pairs}

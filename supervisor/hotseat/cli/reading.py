"""Connecting, and what a reading command answers when there is no daemon."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from hotseat.client.errors import DaemonUnreachable

if TYPE_CHECKING:
    from hotseat.client.sync import Client

T = TypeVar("T")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def connected(*, shares_identity: bool = False) -> "Client":
    """A client that names itself as the command line; raises when no daemon answers.

    Commands that work share one identity; commands that read leave no file behind.
    """
    from hotseat.cli.identity import shared_token
    from hotseat.client.endpoint import find_home
    from hotseat.client.sync import Client

    return Client(name="hotseat-cli", token=shared_token(find_home()) if shares_identity else None)


def read_or_absent(
    read: "Callable[[Client], T]", absent: Callable[[DaemonUnreachable], T]
) -> tuple[T, int]:
    """What the daemon says, or what stands for it when it does not run, with the exit code."""
    try:
        with connected() as client:
            return read(client), os.EX_OK
    except DaemonUnreachable as error:
        return absent(error), error.spec.exit_code

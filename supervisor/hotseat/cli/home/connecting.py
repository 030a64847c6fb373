"""Connecting, and what a reading command answers when there is no daemon."""

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

import click

from hotseat.cli.terminal.output import note
from hotseat.client.errors import DaemonUnreachable
from hotseat.protocol.version import VERSION

if TYPE_CHECKING:
    from hotseat.client.brief import BriefClient
    from hotseat.client.sync import Client
    from hotseat.protocol.replies import Welcome

T = TypeVar("T")
CLIENT_NAME: Final = "hotseat-cli"
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def connected(*, shares_identity: bool = False) -> "Client":
    """A client that names itself as the command line; raises when no daemon answers.

    Commands that work share one identity; commands that read leave no file behind.
    """
    from hotseat.cli.home.shared_token import shared_token
    from hotseat.client.endpoint import find_home
    from hotseat.client.sync import Client

    client = Client(name=CLIENT_NAME, token=shared_token(find_home()) if shares_identity else None)
    _note_difference(client.welcome)
    return client


def _note_difference(welcome: "Welcome | None") -> None:
    difference = version_difference(welcome.version) if welcome is not None else ""
    if difference:
        note(difference)


def version_difference(daemon: str) -> str:
    """What to say when the daemon is of another version than this command; empty if it is not."""
    if daemon == VERSION:
        return ""
    if _parts(daemon) > _parts(VERSION):
        return f"the daemon is version {daemon}, this command is the older {VERSION}; upgrade it"
    return (
        f"the daemon still is version {daemon}, this command {VERSION}: `hotseat service restart` "
        "saves every context and starts the new one (`hotseat restart` without the service)"
    )


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def read_or_absent(
    read: "Callable[[BriefClient], T]", absent: Callable[[DaemonUnreachable], T]
) -> tuple[T, int]:
    """What the daemon says, or what stands for it when it does not run, with the exit code."""
    from hotseat.client.brief import BriefClient

    try:
        with BriefClient(name=CLIENT_NAME) as client:
            _note_difference(client.welcome)
            return read(client), os.EX_OK
    except DaemonUnreachable as error:
        return absent(error), error.spec.exit_code

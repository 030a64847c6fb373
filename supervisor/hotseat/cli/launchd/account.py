"""Whose daemon a job of the system runs, and doing something as that user. Knows no launchd."""

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from hotseat.protocol.errors import HotseatError


class Account(Struct, frozen=True, kw_only=True):
    """A user as the system lists it."""

    name: str
    uid: int
    gid: int
    home: Path


def own_account(environ: Mapping[str, str] = os.environ) -> Account:
    """Who called: behind `sudo` the user that called that."""
    behind = environ.get("SUDO_USER") if os.geteuid() == 0 else None
    try:
        found = pwd.getpwnam(behind) if behind else pwd.getpwuid(os.geteuid())
    except KeyError as error:
        raise HotseatError(
            "invalid_request",
            f"the system does not list user {behind or os.geteuid()}; log in as one that it does",
            user=behind or str(os.geteuid()),
        ) from error
    return Account(name=found.pw_name, uid=found.pw_uid, gid=found.pw_gid, home=Path(found.pw_dir))


def refuse_unfit(account: Account) -> None:
    """Raises `HotseatError` unless this is root, on behalf of a user who is not."""
    if os.geteuid() != 0:
        raise HotseatError(
            "invalid_request",
            "a service of the system belongs to root; call the same command with `sudo`",
            user=account.name,
        )
    if account.uid == 0:
        raise HotseatError(
            "invalid_request",
            "a daemon that runs as root would own every file of it; call `sudo hotseat service "
            "install --system` as the user that it shall run as",
            user=account.name,
        )


@contextmanager
def acting_as(account: Account | None) -> Iterator[None]:
    """Files that are made inside are that user's, and sockets see that user."""
    if account is None or os.geteuid() != 0 or account.uid == 0:
        yield
        return
    group = os.getegid()
    os.setegid(account.gid)
    os.seteuid(account.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)

"""Finds the address of the daemon: one variable or one file. Reads, never writes."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hotseat.client.errors import DaemonUnreachable
from hotseat.protocol.discovery import (
    ENDPOINT_FILE,
    ENDPOINT_VARIABLE,
    HOME_VARIABLE,
    Endpoint,
    parse_endpoint,
)
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import PROTOCOL_MAX, PROTOCOL_MIN

HOW_TO_START: Final = "start it with `hotseat serve`"
_SCHEME: Final = "ipc://"
_MAX_PATH_BYTES: Final = 103
"""macOS allows 104 bytes for a unix socket path, the closing zero included."""


def find_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Folder of the daemon: $HOTSEAT_HOME, else ~/.hotseat."""
    return Path(environ.get(HOME_VARIABLE) or Path.home() / ".hotseat").expanduser()


def endpoint_path(home: Path) -> Path:
    """Where a running daemon leaves its endpoint file."""
    return home / "run" / ENDPOINT_FILE


def read_endpoint(home: Path) -> Endpoint:
    """The endpoint file; without one the daemon of this home does not run."""
    path = endpoint_path(home)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DaemonUnreachable(
            f"daemon not running: no endpoint file {path}; {HOW_TO_START}", endpoint=str(path)
        ) from None
    except OSError as error:
        raise DaemonUnreachable(
            f"endpoint file {path} cannot be read: {error.strerror}; check owner and permissions",
            endpoint=str(path),
        ) from error
    return parse_endpoint(data)


def find_address(home: Path | None = None, environ: Mapping[str, str] = os.environ) -> str:
    """Address to connect to; an explicit home counts more than $HOTSEAT_ENDPOINT."""
    given = environ.get(ENDPOINT_VARIABLE)
    if given and home is None:
        return check_address(given)
    endpoint = read_endpoint(home or find_home(environ))
    if endpoint.protocol_max < PROTOCOL_MIN or endpoint.protocol_min > PROTOCOL_MAX:
        raise HotseatError(
            "version_mismatch",
            f"daemon {endpoint.version} speaks protocol {endpoint.protocol_min} to "
            f"{endpoint.protocol_max}, this client {PROTOCOL_MIN} to {PROTOCOL_MAX}; "
            "install the same version of hotseat for both, then `hotseat service restart`",
            protocol_min=endpoint.protocol_min,
            protocol_max=endpoint.protocol_max,
        )
    return check_address(endpoint.requests)


def check_address(address: str) -> str:
    """Only unix sockets with a path that every supported system can connect to."""
    if not address.startswith(_SCHEME):
        raise HotseatError(
            "invalid_request",
            f"endpoint {address!r} is not {_SCHEME}PATH; other machines are reached through the "
            "HTTP gateway or ssh",
            endpoint=address,
        )
    size_bytes = len(os.fsencode(address.removeprefix(_SCHEME)))
    if not 0 < size_bytes <= _MAX_PATH_BYTES:
        raise HotseatError(
            "invalid_request",
            f"socket path of {size_bytes} bytes in {address!r}; the limit is {_MAX_PATH_BYTES}: "
            "use a shorter HOTSEAT_HOME",
            endpoint=address,
            size_bytes=size_bytes,
            limit_bytes=_MAX_PATH_BYTES,
        )
    return address

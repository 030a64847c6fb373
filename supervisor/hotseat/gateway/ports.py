"""A port of this machine: bound, or whoever has it named. Must not know what is served there."""

import socket
from typing import Final

import psutil

from hotseat.protocol.errors import HotseatError

_BACKLOG: Final = 256


def bind_port(host: str, port: int) -> socket.socket:
    """A listening socket. A port that is taken is another server's: it is never shared.

    Raises HotseatError (invalid_config) that names its holder where the system tells.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends at once only where the protocol is named; else each answer waits 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        # Two may bind a port that nobody listens on yet; only one of them gets to listen.
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        holder = holder_of(port)
        who = f"{holder} has it" if holder else f"`lsof -i :{port}` may say who has it"
        raise HotseatError(
            "invalid_config",
            f"cannot listen on {host}:{port}: {error.strerror}; {who}: end that, or choose "
            "another --port ([http] port)",
            host=host,
            port=port,
            holder=holder,
        ) from error
    return listening


def holder_of(port: int) -> str:
    """Who listens there, `NAME (process PID)`; empty where the system does not tell."""
    for process in psutil.process_iter():
        try:
            found = process.net_connections(kind="tcp")
            if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in found):
                return f"{process.name()} (process {process.pid})"
        except (psutil.Error, OSError):
            continue  # another user's, or gone
    return ""

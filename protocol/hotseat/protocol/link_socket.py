"""What stream sockets on this machine want to be quick. Must not know messages."""

import socket
from typing import Final

from hotseat.protocol.limits import KIB

BUFFER_BYTES: Final = 200 * KIB
"""Room for a context in one go: a Mac gives stream sockets 8 KiB."""


def widen(link: socket.socket) -> None:
    """Enlarges the buffers that are smaller; the system may give less."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        if link.getsockopt(socket.SOL_SOCKET, option) < BUFFER_BYTES:
            link.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)

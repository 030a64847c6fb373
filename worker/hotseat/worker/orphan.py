"""Ties the life of this process to the supervisor's. Must not know about models or messages.

Layers: end-of-file on an inherited pipe (every OS), the parent-death signal (Linux), and a
watchdog in C that ends a process whose threads cannot run Python any more.
"""

import ctypes
import faulthandler
import os
import signal
import sys
import threading
from typing import Final

from hotseat.protocol.exits import EX_ORPHAN

SECRET_BYTES: Final = 32
_PR_SET_PDEATHSIG: Final = 1


class SecretMissingError(Exception):
    """The inherited pipe did not carry the secret."""


def read_secret(fd: int) -> str:
    """The 32 hex digits at the front of the pipe; raises SecretMissingError otherwise."""
    data = b""
    try:
        while len(data) < SECRET_BYTES and (piece := os.read(fd, SECRET_BYTES - len(data))):
            data += piece
        int(data, 16)
    except (OSError, ValueError) as error:
        raise SecretMissingError(f"no secret on fd {fd}: {error}") from error
    if len(data) != SECRET_BYTES:
        raise SecretMissingError(f"secret on fd {fd} has {len(data)} bytes, not {SECRET_BYTES}")
    return data.decode("ascii")


def exit_at_end_of_pipe(fd: int) -> None:
    """Ends the process when the supervisor's end of the pipe closes, by whatever death."""
    os.set_inheritable(fd, False)

    def watch() -> None:
        try:
            while os.read(fd, 64):
                pass
        except OSError:
            pass
        os._exit(EX_ORPHAN)

    threading.Thread(target=watch, name="orphan", daemon=True).start()


def die_with_parent() -> None:
    """Asks Linux for SIGKILL at the parent's death: works while native code holds the GIL."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died before the call: then the signal never comes.
    if os.getppid() != parent:
        os._exit(EX_ORPHAN)


def rearm_watchdog(timeout_s: float) -> None:
    """Ends the process, stacks on stderr, unless called again within `timeout_s`.

    The timer is a C thread, so it fires also when one native call keeps the GIL for ever.
    """
    faulthandler.dump_traceback_later(timeout_s, exit=True)

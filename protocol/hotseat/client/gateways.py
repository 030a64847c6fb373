"""Finds the gateways of a home by the notes they hold locked. Reads, never writes."""

import fcntl
import os
from pathlib import Path
from typing import Final

import msgspec

from hotseat.protocol.discovery import GatewayNote, gateway_note_name

_NOTE_BYTES: Final = 4096
_PATTERN: Final = "http-*.json"


def read_gateway(home: Path, port: int) -> GatewayNote | None:
    """The gateway of this home on that port; None where none lives."""
    return _read(home / "run" / gateway_note_name(port))


def read_gateways(home: Path) -> list[GatewayNote]:
    """All that live, by port."""
    found = (_read(path) for path in sorted((home / "run").glob(_PATTERN)))
    return [note for note in found if note is not None]


def _read(path: Path) -> GatewayNote | None:
    """A note counts while its writer holds the lock: the kernel lets go of it with the process."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _decode(os.pread(descriptor, _NOTE_BYTES, 0))
    finally:
        os.close(descriptor)
    return None


def _decode(data: bytes) -> GatewayNote | None:
    try:
        return msgspec.json.decode(data, type=GatewayNote)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None

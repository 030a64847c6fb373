"""That a gateway of this home lives on a port: a note in `run/`, locked as long as it does."""

import fcntl
import os
import time
from pathlib import Path
from typing import Final, Self

import msgspec

from hotseat.protocol.discovery import GatewayNote, gateway_note_name

_ATTEMPTS: Final = 20
_PAUSE_S: Final = 0.01
"""Somebody who reads the note locks it for a moment."""


class Presence:
    """Held while the gateway lives; the kernel ends it with the process."""

    def __init__(self, home: Path, port: int, note: GatewayNote) -> None:
        self._path = home / "run" / gateway_note_name(port)
        self._note = note
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Shows the note. The port is bound already, so nobody else can hold the file for long."""
        for folder in (self._path.parent.parent, self._path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._path, flags, 0o600)
        for _ in range(_ATTEMPTS):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_PAUSE_S)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, msgspec.json.encode(self._note), 0)
        return self

    def __exit__(self, *_: object) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

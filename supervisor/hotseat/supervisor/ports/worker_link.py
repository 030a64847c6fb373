"""The supervisor's end of the link to one worker: a stream socket per worker. Decides nothing."""

import asyncio
import os
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from hotseat.protocol.ids import Epoch
from hotseat.protocol.limits import KIB
from hotseat.protocol.link import (
    MAX_BODY_BYTES,
    LinkFrame,
    LinkReader,
    decode_from_worker,
    encode_link,
)
from hotseat.protocol.link_orders import ToWorker
from hotseat.protocol.link_reports import FromWorker, WorkerHello
from hotseat.protocol.link_socket import widen

PIECE_BYTES: Final = 16 * KIB
"""Read before the loop gets a turn."""
_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred of Linux: process, user and group ids."""
_SOL_LOCAL: Final = 0
_LOCAL_PEERCRED: Final = 1
_XUCRED: Final = struct.Struct("=IIh2x16I")
"""struct xucred of macOS: version, user id, how many groups, groups."""
_XUCRED_VERSION: Final = 0
log = structlog.get_logger()


class WorkerLink:
    """Sends to and receives from the worker of `epoch`; frames of other epochs are dropped.

    Listens at `path` until the worker connects, and to nobody else afterwards. `on_message` gets
    what the worker had said before its end too, when `close` comes first.
    """

    def __init__(
        self,
        path: Path,
        epoch: Epoch,
        on_message: "Callable[[WorkerLink, Epoch, FromWorker], None]",
    ) -> None:
        self.epoch = epoch
        self.path = path
        self.hello: WorkerHello | None = None
        """The worker's first message, kept for whoever comes to look later."""
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._reader = LinkReader()
        self._frames: deque[LinkFrame] = deque()
        self._unsent = bytearray()
        self._worker: socket.socket | None = None
        self._is_closed = False
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(str(path))
            path.chmod(0o600)
            self._listener.listen(1)
        except OSError:
            self._listener.close()
            raise
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._accept)

    def send(self, message: ToWorker) -> bool:
        """False when the worker does not take messages: it is gone or stuck."""
        if self._worker is None or len(self._unsent) > MAX_BODY_BYTES:
            log.warning("link.send_failed", epoch=self.epoch, waiting_bytes=len(self._unsent))
            return False
        is_idle = not self._unsent
        self._unsent += encode_link(self.epoch, message)
        if is_idle:
            self._write()
        return self._worker is not None

    def close(self) -> None:
        """The worker is gone. What it had said and nobody had read yet is read first."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._worker is None and self._listener.fileno() >= 0:
            self._accept()  # it may have connected, spoken and ended since the loop's last turn
        while self._worker is not None and self._read():
            pass
        self._hang_up()
        self._deafen()
        self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        try:
            worker, _address = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # gone again before it was looked at
        except OSError as error:
            # No descriptors, for instance. The start of this worker will be given up in time.
            log.error("link.not_accepted", epoch=self.epoch, error=str(error))  # noqa: TRY400
            self._deafen()
            return
        if not _is_own(worker):
            log.warning("link.refused", epoch=self.epoch, reason="another user")
            worker.close()
            return
        self._deafen()
        worker.setblocking(False)
        widen(worker)
        self._worker = worker
        self._loop.add_reader(worker, self._read)

    def _deafen(self) -> None:
        """Nobody else gets in."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()

    def _hang_up(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            self._loop.remove_reader(worker)
            self._loop.remove_writer(worker)
            worker.close()
        self._unsent.clear()

    def _write(self) -> None:
        worker = self._worker
        if worker is None:
            return
        try:
            while self._unsent:
                del self._unsent[: worker.send(self._unsent)]
        except BlockingIOError:
            self._loop.add_writer(worker, self._write)
        except OSError:
            # Reading goes on: what it had said before its end is still there.
            self._unsent.clear()
            self._loop.remove_writer(worker)
        else:
            self._loop.remove_writer(worker)

    def _read(self) -> bool:
        """Takes a piece; False when there is none."""
        if self._worker is None:
            return False
        try:
            data = self._worker.recv(PIECE_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            return False
        try:
            self._frames.extend(self._reader.feed(data))
        except ValueError as error:
            # Where the next frame begins is not known any more: its silence will be noticed.
            log.error("link.broken", epoch=self.epoch, error=str(error))  # noqa: TRY400
            self._hang_up()
            return False
        # A queue, because what comes of a message may close the link and so read on.
        while self._frames:
            self._take(self._frames.popleft())
        return True

    def _take(self, frame: LinkFrame) -> None:
        try:
            message = decode_from_worker(frame.body)
        except ValueError as error:
            log.error("link.frame_refused", epoch=self.epoch, error=str(error))  # noqa: TRY400
            return
        epoch = frame.epoch
        if isinstance(message, WorkerHello):
            # Said before it could hear of another epoch: who it is does not depend on that.
            self.hello, epoch = message, self.epoch
        if epoch != self.epoch:
            return
        try:
            self._on_message(self, epoch, message)
        except Exception as error:  # noqa: BLE001 - the frames behind it are to be heard
            text = "a message of a worker could not be dealt with"
            self._loop.call_exception_handler({"message": text, "exception": error})


def _is_own(worker: socket.socket) -> bool:
    """True if the other end belongs to this user, where the system can tell."""
    match sys.platform:
        case "linux":
            found = worker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            _pid, user, _group = _CREDENTIALS.unpack(found)
        case "darwin":
            try:
                found = worker.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size)
            except OSError:
                return True  # its folder is private and its secret is asked for all the same
            version, user, *_groups = _XUCRED.unpack(found.ljust(_XUCRED.size, b"\0"))
            if version != _XUCRED_VERSION:
                return True
        case _:
            return True
    return bool(user == os.getuid())

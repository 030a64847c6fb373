"""The supervisor's end of the link to one worker: a socket per epoch. Decides nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog
import zmq

from hotseat.protocol.ids import Epoch
from hotseat.protocol.limits import MIB
from hotseat.protocol.link import (
    FromWorker,
    ToWorker,
    WorkerHello,
    decode_from_worker,
    encode_link,
)
from hotseat.supervisor.sockets import Frames, LoopSocket, bind_socket

LINK_FRAME_BYTES: Final = 64 * MIB
log = structlog.get_logger()


class LinkPort:
    """Sends to and receives from the worker of `epoch`; frames of other epochs are dropped."""

    def __init__(
        self,
        context: "zmq.Context[Any]",
        path: Path,
        epoch: Epoch,
        on_message: "Callable[[LinkPort, Epoch, FromWorker], None]",
    ) -> None:
        self.epoch = epoch
        self.address = f"ipc://{path}"
        self._path = path
        self.hello: WorkerHello | None = None
        """The worker's first message, kept for whoever comes to look later."""
        self._on_message = on_message
        path.unlink(missing_ok=True)
        socket = bind_socket(context, zmq.DEALER, self.address, max_frame_bytes=LINK_FRAME_BYTES)
        self._socket = LoopSocket(socket, self._receive)

    def send(self, message: ToWorker) -> bool:
        """False when the worker does not take messages: it is gone or stuck."""
        try:
            self._socket.send(encode_link(self.epoch, message))
        except zmq.ZMQError as error:
            log.warning("link.send_failed", epoch=self.epoch, error=str(error))
            return False
        return True

    def close(self) -> None:
        """The worker is gone."""
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _receive(self, frames: Frames) -> None:
        try:
            epoch, message = decode_from_worker(frames)
        except ValueError as error:
            log.error("link.frame_refused", epoch=self.epoch, error=str(error))  # noqa: TRY400
            return
        if isinstance(message, WorkerHello):
            # Said before it could hear of another epoch: who it is does not depend on that.
            self.hello, epoch = message, self.epoch
        if epoch == self.epoch:
            self._on_message(self, epoch, message)

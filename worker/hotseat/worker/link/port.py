"""The link: moves messages between this process and the supervisor, and beats.

Whoever has something to say writes it to the socket itself, as far as the socket takes it; the
link thread does the rest. Must not know what messages mean, but for the change of epoch, and must
never wait for the compute thread: beats prove that the process lives even while a step takes
minutes.
"""

import contextlib
import queue
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from hotseat.protocol.exits import EX_INTERNAL, EX_PROTOCOL
from hotseat.protocol.ids import Epoch
from hotseat.protocol.limits import BEAT_S, KIB, REST_BEAT_S
from hotseat.protocol.link import LinkFrame, LinkReader, decode_to_worker, encode_link
from hotseat.protocol.link_orders import Reseat, ToWorker
from hotseat.protocol.link_reports import Beat, FromWorker
from hotseat.protocol.link_socket import widen
from hotseat.worker.dying import die
from hotseat.worker.link.beats import BeatPace
from hotseat.worker.link.outflow import Outflow

_PIECE_BYTES: Final = 256 * KIB
"""Handed to the socket, or taken from it, at once."""
_RETRY_S: Final = 0.05
"""Between two attempts to connect to a path where nobody listens yet."""
_WAKE_BYTES: Final = 4096

Inbox = queue.SimpleQueue[ToWorker | None]
"""Messages for the compute thread; None only wakes it."""


class SupervisorLink:
    """One stream socket to the supervisor's link path, read by one daemon thread.

    `send` may be called from any thread and never waits for the other end; order is kept. Frames
    of another epoch are dropped: they were meant for a worker that is gone. Only Reseat changes
    the epoch. When the other end is gone the port is deaf and dumb: what then ends the process is
    the pipe that tells of the supervisor's death.
    """

    def __init__(
        self,
        path: str,
        epoch: Epoch,
        beat_source: Callable[[], Beat],
        *,
        inbox: Inbox | None = None,
        beat_s: float = BEAT_S,
        rest_s: float = REST_BEAT_S,
        on_beat: Callable[[], None] | None = None,
    ) -> None:
        self.inbox: Inbox = queue.SimpleQueue() if inbox is None else inbox
        self._path = path
        self._epoch = epoch
        self._beat_source = beat_source
        self._pace = BeatPace(beat_s, rest_s)
        self._on_beat = on_beat
        self._outflow = Outflow()
        self._socket: socket.socket | None = None
        self._is_lost = False
        self._writing = threading.Lock()
        self._unsent = memoryview(b"")
        self._sleeps_until = float("-inf")
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._is_signalled = False
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    def start(self) -> None:
        """Connects as soon as somebody listens."""
        self._thread.start()

    def send(self, message: FromWorker) -> None:
        """Sends a message, or has it sent a moment later with those that follow it."""
        now = time.monotonic()
        if self._outflow.put(self._epoch, message, now):
            self._pace.stir(now)
            self._write()
        if self._unsent or min(self._outflow.looks_at, self._pace.due_at) < self._sleeps_until:
            self._signal()

    def wake(self) -> None:
        """Makes a compute thread that waits on the inbox look for work."""
        self.inbox.put(None)

    def close(self, timeout_s: float = 2.0) -> None:
        """Sends what is queued, for at most `timeout_s`, and ends the thread."""
        self._deadline = time.monotonic() + timeout_s
        if self._thread.is_alive():
            self._signal()
            self._thread.join(2 * timeout_s + BEAT_S)
        self._wake_sender.close()
        self._wake_receiver.close()

    def _signal(self) -> None:
        # A racing second byte is harmless; a lost one is not possible, because the thread lowers
        # the flag before it looks at anything else.
        if not self._is_signalled:
            self._is_signalled = True
            try:
                self._wake_sender.send(b"\0")
            except BlockingIOError:
                pass  # the pipe is full of wake-ups already
            except OSError:
                pass  # closed: the process is on its way out

    def _write(self) -> None:
        """Hands what waits to the socket; what it does not take is left in `_unsent`."""
        with self._writing:
            while self._socket is not None and (self._unsent or self._fill()):
                try:
                    sent = self._socket.send(self._unsent)
                except BlockingIOError:
                    return
                except OSError:
                    self._lose()
                else:
                    self._unsent = self._unsent[sent:]

    def _fill(self) -> bool:
        """Encodes what waits next; False if nothing does, or nobody is there to get it."""
        frames: list[bytes] = []
        size = 0
        while size < _PIECE_BYTES and (taken := self._outflow.take()):
            if not self._is_lost:
                new = [encode_link(epoch, message) for epoch, message in taken]
                size += sum(len(frame) for frame in new)
                frames += new
        self._unsent = memoryview(b"".join(frames))
        return bool(frames)

    def _lose(self) -> None:
        self._is_lost = True
        self._unsent = memoryview(b"")

    def _run(self) -> None:
        try:
            link = self._connect()
            if link is not None:
                self._serve(link)
                with self._writing:
                    self._socket = None
                    link.close()
        except Exception as error:  # noqa: BLE001 - task root: a deaf worker is of no use
            die(EX_INTERNAL, f"link thread failed: {type(error).__name__}: {error}")

    def _connect(self) -> socket.socket | None:
        """Tries until somebody listens; None if the port is closed before."""
        while self._deadline is None or time.monotonic() < self._deadline:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                made.connect(self._path)
            except (FileNotFoundError, ConnectionRefusedError):
                made.close()
                select.select([self._wake_receiver], [], [], _RETRY_S)
                self._drain_wakes()
            else:
                made.setblocking(False)
                widen(made)
                self._socket = made
                self._write()
                return made
        return None

    def _serve(self, link: socket.socket) -> None:
        reader = LinkReader()
        is_heard = True
        poller = select.poll()
        poller.register(self._wake_receiver, select.POLLIN)
        while True:
            # Read before the write: what was queued before the close is in it then.
            deadline = self._deadline
            now = time.monotonic()
            is_due = self._outflow.is_due(now)
            if is_due or self._unsent or deadline is not None:
                self._write()
            with self._writing:  # what is left while somebody writes is not left over
                is_blocked = bool(self._unsent)
            if deadline is not None and (not is_blocked or now >= deadline):
                return
            if now >= self._pace.due_at:
                self._beat(now, is_blocked=is_blocked)
            if is_heard:
                poller.register(link, select.POLLIN | (select.POLLOUT if is_blocked else 0))
            ready = dict(poller.poll(self._wait_ms()))
            self._sleeps_until = float("-inf")
            if self._wake_receiver.fileno() in ready:
                self._drain_wakes()
            if ready.get(link.fileno(), 0) & ~select.POLLOUT:
                is_heard = self._receive(link, reader)
                if not is_heard:
                    poller.unregister(link)

    def _wait_ms(self) -> int:
        # From here on whoever has something earlier says so; what came before is seen here.
        self._sleeps_until = float("inf")
        until = min(self._pace.due_at, self._outflow.looks_at)
        if self._deadline is not None:
            until = min(until, self._deadline)
        self._sleeps_until = until
        return max(1, int((until - time.monotonic()) * 1000))

    def _drain_wakes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_receiver.recv(_WAKE_BYTES)
        self._is_signalled = False

    def _beat(self, now: float, *, is_blocked: bool) -> None:
        if self._on_beat is not None:
            self._on_beat()
        beat = self._beat_source()
        self._pace.note(beat, now)
        # While the supervisor does not read, another beat would only lengthen the queue.
        if not is_blocked:
            self._outflow.put(self._epoch, beat, now)
            self._write()

    def _receive(self, link: socket.socket, reader: LinkReader) -> bool:
        """Takes what is there; False at the end of the stream."""
        try:
            data = link.recv(_PIECE_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            with self._writing:
                self._lose()
            return False
        self._pace.stir(time.monotonic())
        try:
            for frame in reader.feed(data):
                self._take(frame)
        except ValueError as error:  # msgspec's are
            die(EX_PROTOCOL, f"frame on the link does not decode: {error}")
        return True

    def _take(self, frame: LinkFrame) -> None:
        message = decode_to_worker(frame.body)
        if frame.epoch != self._epoch:
            return
        if isinstance(message, Reseat):
            # Here and not on the compute thread: the next frame has the new epoch already.
            self._epoch = message.epoch
        self.inbox.put(message)

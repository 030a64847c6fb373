"""The link thread: moves messages between this process and the supervisor, and beats.

Must not know what messages mean, but for the change of epoch, and must never wait for the compute
thread: beats prove that the process lives even while a step takes minutes.
"""

import contextlib
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, NoReturn

import zmq

from hotseat.protocol.exits import EX_INTERNAL, EX_PROTOCOL
from hotseat.protocol.ids import Epoch
from hotseat.protocol.limits import BEAT_S, MIB, REST_BEAT_S
from hotseat.protocol.link import Beat, FromWorker, Reseat, ToWorker, decode_to_worker, encode_link
from hotseat.worker.beats import BeatPace
from hotseat.worker.outflow import Outflow

_MAX_FRAME_BYTES: Final = 64 * MIB
_QUEUED_MESSAGES: Final = 10_000
_WAKE_BYTES: Final = 4096

Inbox = queue.SimpleQueue[ToWorker | None]
"""Messages for the compute thread; None only wakes it."""


class LinkPort:
    """One DEALER to the supervisor's link endpoint, owned by one daemon thread.

    `send` may be called from any thread and never blocks; order is kept. Frames of another epoch
    are dropped: they were meant for a worker that is gone. Only Reseat changes the epoch.
    """

    def __init__(
        self,
        endpoint: str,
        epoch: Epoch,
        beat_source: Callable[[], Beat],
        *,
        inbox: Inbox | None = None,
        beat_s: float = BEAT_S,
        rest_s: float = REST_BEAT_S,
        on_beat: Callable[[], None] | None = None,
    ) -> None:
        self.inbox: Inbox = queue.SimpleQueue() if inbox is None else inbox
        self._endpoint = endpoint
        self._epoch = epoch
        self._beat_source = beat_source
        self._pace = BeatPace(beat_s, rest_s)
        self._on_beat = on_beat
        self._outflow = Outflow()
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._is_signalled = False
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    def start(self) -> None:
        """Connects; ZeroMQ keeps trying if the other end is not bound yet."""
        self._thread.start()

    def send(self, message: FromWorker) -> None:
        """Queues a message; it is encoded on the link thread, so the caller pays an append."""
        if self._outflow.put(self._epoch, message, time.monotonic()):
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
        # the flag before it empties the queue.
        if not self._is_signalled:
            self._is_signalled = True
            try:
                self._wake_sender.send(b"\0")
            except BlockingIOError:
                pass  # the pipe is full of wake-ups already
            except OSError:
                pass  # closed: the process is on its way out

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:  # noqa: BLE001 - task root: a deaf worker is of no use
            die(EX_INTERNAL, f"link thread failed: {type(error).__name__}: {error}")

    def _serve(self) -> None:
        context = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.IMMEDIATE, 1)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.SNDHWM, _QUEUED_MESSAGES)
        dealer.setsockopt(zmq.RCVHWM, _QUEUED_MESSAGES)
        dealer.setsockopt(zmq.MAXMSGSIZE, _MAX_FRAME_BYTES)
        dealer.setsockopt(zmq.RECONNECT_IVL, 50)
        dealer.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        dealer.connect(self._endpoint)
        poller = zmq.Poller()
        poller.register(dealer, zmq.POLLIN)
        poller.register(self._wake_receiver, zmq.POLLIN)
        while True:
            # Read before the flush: what was queued before the close is in it then.
            deadline = self._deadline
            is_blocked = not self._flush(dealer)
            now = time.monotonic()
            if deadline is not None and (not is_blocked or now >= deadline):
                break
            if now >= self._pace.due_at:
                self._beat(dealer, now, is_blocked=is_blocked)
            if not (is_blocked or self._outflow.promise(now)):
                continue
            poller.modify(dealer, zmq.POLLIN | (zmq.POLLOUT if is_blocked else 0))
            ready = dict(poller.poll(self._wait_ms()))
            if self._wake_receiver.fileno() in ready:
                self._drain_wakes()
            if ready.get(dealer, 0) & zmq.POLLIN:
                self._receive(dealer)
        dealer.close(linger=max(1, int((deadline - time.monotonic()) * 1000)))
        context.term()

    def _wait_ms(self) -> int:
        now = time.monotonic()
        until = self._pace.due_at
        if self._deadline is not None:
            until = min(until, self._deadline)
        if self._outflow.looks_at > now:
            until = min(until, self._outflow.looks_at)
        return max(1, int((until - now) * 1000))

    def _drain_wakes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_receiver.recv(_WAKE_BYTES)
        self._is_signalled = False

    def _flush(self, dealer: "zmq.Socket[bytes]") -> bool:
        """Sends the queue; False if the socket takes no more for now."""
        while (queued := self._outflow.peek()) is not None:
            try:
                dealer.send_multipart(encode_link(*queued), flags=zmq.NOBLOCK)
            except zmq.Again:
                return False
            self._outflow.pop()
            self._pace.stir(time.monotonic())
        return True

    def _beat(self, dealer: "zmq.Socket[bytes]", now: float, *, is_blocked: bool) -> None:
        if self._on_beat is not None:
            self._on_beat()
        beat = self._beat_source()
        self._pace.note(beat, now)
        # While the supervisor does not read, another beat would only lengthen the queue.
        if is_blocked:
            return
        try:
            dealer.send_multipart(encode_link(self._epoch, beat), flags=zmq.NOBLOCK)
        except zmq.Again:
            return

    def _receive(self, dealer: "zmq.Socket[bytes]") -> None:
        while True:
            try:
                frames = dealer.recv_multipart(flags=zmq.NOBLOCK)
            except zmq.Again:
                return
            self._pace.stir(time.monotonic())
            try:
                epoch, message = decode_to_worker(frames)
            except Exception as error:  # noqa: BLE001 - msgspec and int() raise several kinds
                die(EX_PROTOCOL, f"frame on the link does not decode: {error}")
            if epoch == self._epoch:
                if isinstance(message, Reseat):
                    # Here and not on the compute thread: the next frame has the new epoch already.
                    self._epoch = message.epoch
                self.inbox.put(message)


def die(code: int, message: str) -> NoReturn:
    """Ends the process at once with one line on stderr; for threads that cannot raise to main."""
    sys.stderr.write(f"worker: {message}\n")
    sys.stderr.flush()
    os._exit(code)

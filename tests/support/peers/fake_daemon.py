"""A daemon without a seat: a real ROUTER on a thread, scripted work, and the power to vanish.

It speaks the wire contract for real; what it "generates" is `FakeDaemon.words`, one token each.
"""

import asyncio
import contextlib
import os
import queue
import secrets
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import zmq

from hotseat.client import Client
from hotseat.protocol.codec import decode_client, encode_daemon, open_envelope
from hotseat.protocol.credit import chunk_cost
from hotseat.protocol.discovery import ENDPOINT_FILE, Endpoint
from hotseat.protocol.limits import DEFAULT_CREDIT_BYTES
from hotseat.protocol.messages import (
    Attach,
    Cancel,
    ClientMessage,
    Credit,
    Events,
    Generate,
    Hello,
    Ping,
    Shutdown,
    Swap,
)
from hotseat.protocol.replies import (
    Accepted,
    Chunk,
    ChunkPart,
    DaemonMessage,
    Done,
    ErrorBody,
    Event,
    Pong,
    Progress,
    Reply,
    Timing,
    Usage,
    Welcome,
)
from hotseat.protocol.version import VERSION
from tests.support.peers.fake_views import MODELS, WORDS, answer_read, swap_report


@dataclass
class Work:
    """One generation; it outlives connections and, unless forgotten, the daemon."""

    request: Generate
    words: tuple[str, ...]
    accepted: bool = False
    sent: int = 0
    credit: int = DEFAULT_CREDIT_BYTES
    seq: int = 0
    peer: bytes = b""
    done: Done | None = None
    grants: list[int] = field(default_factory=list)
    sent_bytes: int = 0


class FakeDaemon:
    """Context manager; `home` gets a real endpoint file."""

    def __init__(self, home: Path, words: tuple[str, ...] = WORDS) -> None:
        self.home = home
        self.words = words
        self.instance = "one"
        self.version = VERSION
        self.is_mute = False
        self.pause_after: int | None = None
        """Number of words of each request after which nothing more is sent."""
        self.works: dict[tuple[str, str], Work] = {}
        self.received: list[tuple[str, ClientMessage]] = []
        self.events: list[Event] = []
        self.handlers: dict[type, Callable[[bytes, str, ClientMessage], object]] = {}
        self.pid = os.getpid()
        self._tokens: dict[bytes, str] = {}
        self._subscribed: dict[tuple[bytes, str], Events] = {}
        self._news = threading.Condition()
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._socket: zmq.Socket | None = None
        self._thread: threading.Thread | None = None
        self._path = home / "run" / "requests.sock"

    # -- life

    def __enter__(self):
        self.come_back(self.instance)
        return self

    def __exit__(self, *_):
        self.vanish()
        with contextlib.suppress(FileNotFoundError):
            (self.home / "run" / ENDPOINT_FILE).unlink()

    def client(self, **options: object) -> Client:
        return Client(home=self.home, **options)

    def come_back(self, instance: str) -> None:
        self.instance = instance
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.router_mandatory = 1
        self._socket.bind(f"ipc://{self._path}")
        self._read_fd, self._write_fd = os.pipe()
        self._stopping = False
        self.write_endpoint()
        self._thread = threading.Thread(target=self._serve, name="fake-daemon")
        self._thread.start()

    def write_endpoint(self) -> None:
        endpoint = Endpoint(
            protocol_min=1,
            protocol_max=1,
            version=self.version,
            instance=self.instance,
            pid=self.pid,
            requests=f"ipc://{self._path}",
        )
        (self.home / "run" / ENDPOINT_FILE).write_bytes(msgspec.json.encode(endpoint))

    def vanish(self) -> None:
        """As if killed: the socket closes, the endpoint file stays, work is remembered."""
        if self._thread is None:
            return
        if threading.current_thread() is self._thread:
            self._stopping = True
            return
        self.post(self._stop)
        self._thread.join()
        self._thread = None
        self._tokens.clear()
        self._subscribed.clear()
        os.close(self._read_fd)
        os.close(self._write_fd)

    def _stop(self) -> None:
        self._stopping = True

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._read_fd, zmq.POLLIN)
        while not self._stopping:
            ready = dict(poller.poll())
            if self._read_fd in ready:
                os.read(self._read_fd, 4096)
            while not self._jobs.empty():
                self._jobs.get()()
            while self._socket.poll(0) and not self._stopping:
                self._handle(self._socket.recv_multipart())
        self._socket.close()
        self._context.term()

    # -- for tests

    def post(self, job: Callable[[], None]) -> None:
        """Runs a job on the daemon's thread."""
        self._jobs.put(job)
        os.write(self._write_fd, b"x")

    def resume(self) -> None:
        """Goes on with everything that `pause_after` holds back."""

        def go() -> None:
            self.pause_after = None
            for (_, request_id), work in self.works.items():
                self._pump(request_id, work)

        self.post(go)

    def publish(self, *events: Event) -> None:
        """Sends events to every subscriber and keeps them for later ones."""

        def go() -> None:
            self.events.extend(events)
            for (peer, request_id), message in self._subscribed.items():
                for event in events:
                    if self._wants(message, event):
                        self.send(peer, request_id, event)

        self.post(go)

    def of(self, kind: type) -> list:
        """Messages of a kind received so far."""
        with self._news:
            return [message for _, message in self.received if isinstance(message, kind)]

    def wait_for(self, kind: type, count: int = 1, timeout_s: float = 10.0) -> list:
        """Waits until so many messages of a kind arrived."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while len(self.of_locked(kind)) < count:
                left = deadline - time.monotonic()
                assert left > 0, f"{count} x {kind.__name__} expected, got {self.received}"
                self._news.wait(left)
            return self.of_locked(kind)

    def of_locked(self, kind: type) -> list:
        return [message for _, message in self.received if isinstance(message, kind)]

    # -- messages

    def send(self, peer: bytes, request_id: str, message: DaemonMessage) -> None:
        frames = encode_daemon(message, request_id)
        with contextlib.suppress(zmq.ZMQError):  # the peer is gone
            self._socket.send_multipart([peer, *frames])

    def fail(self, peer: bytes, request_id: str, code: str, message: str, **facts) -> None:
        self.send(peer, request_id, ErrorBody(code=code, message=message, facts=facts))

    @staticmethod
    def _wants(message: Events, event: Event) -> bool:
        return not message.topics or event.name.startswith(message.topics)

    def _handle(self, frames: list[bytes]) -> None:
        peer, *rest = frames
        envelope = open_envelope(rest)
        message = decode_client(envelope)
        request_id = envelope.request_id
        if not isinstance(message, Ping):
            with self._news:
                self.received.append((request_id, message))
                self._news.notify_all()
        if self.is_mute:
            return
        handler = self.handlers.get(type(message))
        if handler is not None and handler(peer, request_id, message) is not False:
            return
        self._answer(peer, request_id, message)

    def _answer(self, peer: bytes, request_id: str, message: ClientMessage) -> None:  # noqa: PLR0912
        match message:
            case Hello(token=token):
                self._tokens[peer] = token or secrets.token_hex(16)
                welcome = Welcome(
                    protocol=1,
                    instance=self.instance,
                    token=self._tokens[peer],
                    version=self.version,
                )
                self.send(peer, request_id, welcome)
            case _ if peer not in self._tokens:
                self.fail(peer, request_id, "invalid_request", "say hello first")
            case Ping():
                self.send(peer, request_id, Pong())
            case Generate():
                self._generate(peer, request_id, message)
            case Attach():
                self._attach(peer, request_id, message)
            case Credit(grant_bytes=grant):
                work = self.works.get((self._tokens[peer], request_id))
                if work is not None:
                    work.grants.append(grant)
                    work.credit += grant
                    self._pump(request_id, work)
            case Cancel():
                self._cancel(peer, request_id, message)
            case Swap(model=model):
                for phase in ("draining", "loading", "warming"):
                    self.send(peer, request_id, Progress(phase=phase, model=model, percent=50.0))
                self.send(peer, request_id, swap_report(model))
            case Events(since=since):
                self._subscribed[peer, request_id] = message
                for event in self.events:
                    if since is not None and event.seq > since and self._wants(message, event):
                        self.send(peer, request_id, event)
            case Shutdown():
                (self.home / "run" / ENDPOINT_FILE).unlink()
                self.send(peer, request_id, Reply(result={"stopping": True}))
                self._stopping = True
            case _:
                result = answer_read(message, self.instance, self.pid)
                self.send(peer, request_id, Reply(result=result))

    # -- work

    def _generate(self, peer: bytes, request_id: str, request: Generate) -> None:
        known = {model.name for model in MODELS}
        if request.model not in known:
            self.fail(
                peer,
                request_id,
                "unknown_model",
                f"no model {request.model!r}; near: smol",
                near=["smol"],
            )
            return
        key = (self._tokens[peer], request_id)
        is_new = key not in self.works
        work = self.works.setdefault(key, Work(request=request, words=self.words))
        self._join(peer, request_id, work, 0, request.credit_bytes, is_replay=not is_new)

    def _attach(self, peer: bytes, request_id: str, attach: Attach) -> None:
        work = self.works.get((self._tokens[peer], attach.request_id))
        if work is None:
            self.fail(peer, request_id, "request_unknown", f"no request {attach.request_id}")
            return
        self._join(peer, request_id, work, attach.offset_tokens, attach.credit_bytes)

    def _join(
        self,
        peer: bytes,
        request_id: str,
        work: Work,
        offset: int,
        credit: int | None,
        *,
        is_replay: bool = True,
    ) -> None:
        work.peer, work.sent, work.seq = peer, offset, 0
        work.credit = credit or DEFAULT_CREDIT_BYTES
        self.send(peer, request_id, Accepted(position=0, seed=7, replayed=is_replay))
        work.accepted = True
        self.send(peer, request_id, Progress(phase="prefill", percent=50.0))
        self._pump(request_id, work)

    def _pump(self, request_id: str, work: Work) -> None:
        """Sends words while there is credit, then Done."""
        while work.sent < len(work.words) and work.done is None:
            if work.credit <= 0:
                return
            if self.pause_after is not None and work.sent >= self.pause_after:
                return
            chunk = Chunk(
                seq=work.seq,
                offset_tokens=work.sent,
                tokens=(work.sent,),
                parts=(ChunkPart(type="text", text=work.words[work.sent]),),
            )
            self.send(work.peer, request_id, chunk)
            work.credit -= chunk_cost(chunk)
            work.sent_bytes += chunk_cost(chunk)
            work.sent += 1
            work.seq += 1
        if work.done is None:
            work.done = self._done(work, "stop")
        self.send(work.peer, request_id, work.done)

    def _done(self, work: Work, reason: str) -> Done:
        request = work.request
        count = work.sent
        return Done(
            model=request.model,
            text="".join(work.words[:count]),
            tokens=tuple(range(count)),
            finish_reason=reason,
            usage=Usage(
                prompt_tokens=10, restored_tokens=6, computed_tokens=4, completion_tokens=count
            ),
            timing=Timing(ttft_s=0.1, decode_s=0.2, total_s=0.3),
            session=request.session,
            turn=1 if request.session else None,
            seed=7,
        )

    def _cancel(self, peer: bytes, request_id: str, cancel: Cancel) -> None:
        self._subscribed.pop((peer, cancel.request_id), None)
        work = self.works.get((self._tokens[peer], cancel.request_id))
        is_open = work is not None and work.done is None
        self.send(peer, request_id, Reply(result={"cancelled": is_open}))
        if is_open:
            work.done = self._done(work, "cancelled")
            self.send(work.peer, cancel.request_id, work.done)


def main() -> None:
    """A fake daemon as a process of its own: ends when it is shut down."""
    daemon = FakeDaemon(Path(sys.argv[1]))
    daemon.come_back("process")
    daemon._thread.join()


async def until(wait: Callable[[], object]) -> object:
    """Runs a blocking wait of a fake daemon beside the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, wait)


if __name__ == "__main__":
    main()

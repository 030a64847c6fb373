"""The request socket: who is connected, what they send, what goes back. Does no work itself.

One loop owns the ROUTER. Routing ids are addresses of a connection and nothing more; identity is
the token of Hello.
"""

import secrets
import time
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
import zmq
from msgspec import Struct

from hotseat.protocol.codec import (
    Envelope,
    decode_client,
    encode_daemon,
    ignored_fields,
    open_envelope,
)
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ClientToken, RequestId
from hotseat.protocol.limits import (
    MAX_FRAME_BYTES,
    MISSED_PINGS,
    PING_S,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
)
from hotseat.protocol.messages import ClientInfo, ClientMessage, Generate, Hello, Ping
from hotseat.protocol.replies import DaemonMessage, ErrorBody, Pong, Welcome
from hotseat.supervisor.loop.tasks import defect_of
from hotseat.supervisor.ports.log_pace import LogPace
from hotseat.supervisor.ports.zmq_socket import Frames, LoopSocket, bind_router

FEATURES: Final = (
    "generate",
    "attach",
    "swap",
    "release",
    "quote",
    "why",
    "events",
    "sessions",
    "plan",
    "logprobs",
)
NO_REQUEST: Final = RequestId("-")
log = structlog.get_logger()


class Identity(Struct, frozen=True, kw_only=True):
    """This run of the daemon, as clients know it."""

    instance: str
    version: str
    started_at: float
    """Monotonic seconds."""


class Peer:
    """A connection that said hello."""

    def __init__(
        self, routing: bytes, token: ClientToken, info: ClientInfo, now: float, protocol: int
    ) -> None:
        self.routing = routing
        self.token = token
        self.info = info
        self.seen_at = now
        self.protocol = protocol
        """The newest version that both sides speak."""

    @property
    def name(self) -> str:
        """For causes and logs."""
        return f"{self.info.name}[{self.info.pid}]" if self.info.pid else self.info.name


class Receiver(Protocol):
    """Who answers what peers send."""

    def route(
        self, peer: Peer, request_id: RequestId, message: ClientMessage, ignored: tuple[str, ...]
    ) -> None:
        """A message of a peer that said hello; `ignored` are fields it has and should not."""

    def forget(self, peer: Peer) -> None:
        """The peer vanished; called once."""


class ClientPort:
    """Receives messages of peers and sends to them, from `open` on."""

    def __init__(self, path: Path, identity: Identity) -> None:
        self.address = f"ipc://{path}"
        self._path = path
        self._identity = identity
        self._context: zmq.Context[Any] = zmq.Context()
        self._peers: dict[bytes, Peer] = {}
        self._pace = LogPace()
        self._socket: LoopSocket | None = None
        self._receiver: Receiver | None = None

    def open(self, receiver: Receiver) -> None:
        """Listens; `receiver` gets everything but hello and ping. Raises zmq.ZMQError."""
        self._receiver = receiver
        socket = bind_router(self._context, self.address, max_frame_bytes=MAX_FRAME_BYTES)
        self._path.chmod(0o600)
        self._socket = LoopSocket(socket, self._receive)

    def send(self, peer: Peer, request_id: RequestId, message: DaemonMessage) -> bool:
        """False when the peer is gone or does not read; then it is treated as vanished."""
        return self._send(peer.routing, request_id, message)

    def offer(self, peer: Peer, request_id: RequestId, message: DaemonMessage) -> bool | None:
        """Like `send`, but None when the peer does not read at the moment; it stays connected."""
        if self._socket is None:
            return False
        try:
            self._socket.send([peer.routing, *encode_daemon(message, request_id, peer.protocol)])
        except zmq.Again:
            return None
        except zmq.ZMQError as error:
            self._vanish(peer, str(error))
            return False
        return True

    def refuse(self, peer: Peer, request_id: RequestId, error: HotseatError) -> bool:
        """Sends an error of the table."""
        return self.send(peer, request_id, error_body(error))

    def drop_silent(self, now: float) -> None:
        """Treats peers whose pings stopped as vanished."""
        patience_s = MISSED_PINGS * PING_S
        for peer in [p for p in self._peers.values() if now - p.seen_at > patience_s]:
            self._vanish(peer, "pings stopped")

    def forgive(self, lost_s: float) -> None:
        """Time in which this process did not run is no silence of the peers."""
        for peer in self._peers.values():
            peer.seen_at += lost_s

    def close(self, linger_ms: int = 500) -> None:
        """Stops receiving; last answers get a moment to leave."""
        if self._socket is not None:
            self._socket.close(linger_ms)
            self._path.unlink(missing_ok=True)

    def end(self) -> None:
        """Returns when what was sent has left or had its moment; after `close`."""
        self._context.term()

    def _send(self, routing: bytes, request_id: RequestId, message: DaemonMessage) -> bool:
        if self._socket is None or not self._socket.is_open:
            return False
        peer = self._peers.get(routing)
        # Who said no hello yet, or a wrong one, is answered in what everybody reads.
        version = peer.protocol if peer is not None else PROTOCOL_MIN
        try:
            self._socket.send([routing, *encode_daemon(message, request_id, version)])
        except zmq.ZMQError as error:
            if peer is not None:
                self._vanish(peer, str(error))
            return False
        return True

    def _vanish(self, peer: Peer, reason: str) -> None:
        if self._peers.pop(peer.routing, None) is not None:
            log.info("client.vanished", client=peer.name, reason=reason)
            if self._receiver is not None:
                self._receiver.forget(peer)

    def _receive(self, frames: Frames) -> None:
        routing, *rest = frames
        request_id = NO_REQUEST
        try:
            envelope = open_envelope(rest)
            request_id = envelope.request_id
            message = decode_client(envelope)
            ignored = ignored_fields(envelope) if isinstance(message, Generate) else ()
            self._dispatch(routing, envelope, message, ignored)
        except HotseatError as error:
            left_out = self._pace.admit(error.code, time.monotonic())
            if left_out is not None:
                facts = {"left_out": left_out} if left_out else {}
                log.info("request.refused", code=error.code, reason=error.message, **facts)
            self._send(routing, request_id, error_body(error))
        except Exception as error:  # task root
            log.exception("message.defect")
            self._send(routing, request_id, error_body(defect_of(error)))

    def _dispatch(
        self, routing: bytes, envelope: Envelope, message: ClientMessage, ignored: tuple[str, ...]
    ) -> None:
        now = time.monotonic()
        if isinstance(message, Hello):
            self._greet(routing, envelope.request_id, message, now)
            return
        peer = self._peers.get(routing)
        if peer is None:
            if isinstance(message, Ping):
                return  # no pong: the client says hello again
            raise HotseatError("invalid_request", "say hello first")
        peer.seen_at = now
        if isinstance(message, Ping):
            self._send(routing, envelope.request_id, Pong())
            return
        if self._receiver is not None:
            self._receiver.route(peer, envelope.request_id, message, ignored)

    def _greet(self, routing: bytes, request_id: RequestId, hello: Hello, now: float) -> None:
        if hello.protocol < PROTOCOL_MIN:
            raise HotseatError(
                "version_mismatch",
                f"client speaks protocol {hello.protocol}, this daemon {PROTOCOL_MIN} to "
                f"{PROTOCOL_MAX}; update the client",
                protocol_min=PROTOCOL_MIN,
                protocol_max=PROTOCOL_MAX,
            )
        token = ClientToken(hello.token or secrets.token_hex(16))
        known = self._peers.get(routing)
        if known is not None and known.token != token:
            self._vanish(known, "another hello on the same connection")
            known = None
        protocol = min(hello.protocol, PROTOCOL_MAX)
        if known is None:
            known = self._peers[routing] = Peer(routing, token, hello.client, now, protocol)
            log.info("client.connected", client=known.name)
        known.seen_at, known.protocol = now, protocol
        self._send(
            routing,
            request_id,
            Welcome(
                protocol=protocol,
                instance=self._identity.instance,
                token=token,
                version=self._identity.version,
                features=FEATURES,
            ),
        )


def error_body(error: HotseatError) -> ErrorBody:
    """The wire form of an error."""
    return ErrorBody(
        code=error.code,
        message=error.message,
        retryable=error.spec.retryable,
        retry_after_s=error.retry_after_s,
        facts=error.facts,
    )

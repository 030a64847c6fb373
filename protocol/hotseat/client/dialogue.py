"""One client's conversation with the daemon across connections, as a state machine. Pure.

Bytes and the time come in as arguments, frames to send go out through `outgoing`. It must not
know sockets or event loops. Every connection begins with Hello; nothing else leaves before the
Welcome, and what was under way then goes on by `Exchange.reopening`.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from hotseat.client.errors import DaemonUnreachable, RequestFailed
from hotseat.client.exchange import Exchange
from hotseat.client.requests import encode_checked
from hotseat.protocol.codec import Envelope, decode_daemon, encode_client, open_envelope
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ClientToken, RequestId
from hotseat.protocol.limits import (
    MAX_FRAME_BYTES,
    MISSED_PINGS,
    PING_S,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
)
from hotseat.protocol.messages import ClientInfo, ClientMessage, Hello, Ping
from hotseat.protocol.replies import ErrorBody, Welcome

_HELLO_ID: Final = RequestId("hello")
_PING_ID: Final = RequestId("ping")
AnyExchange = Exchange[Any, Any]


class Dialogue:
    """What is asked, what is answered, and whether the daemon is there.

    Attributes:
        outgoing: frames to send on the current connection, in order.
        welcome: the daemon's answer to Hello on the current connection, else None.
        instances: instances of the daemon seen so far, newest last; two differ by a restart.
        refusal: why the last Hello was refused, if it was.
    """

    def __init__(self, token: ClientToken, info: ClientInfo, wake: Callable[[], None]) -> None:
        self.token = token
        self.outgoing: deque[list[bytes]] = deque()
        self.welcome: Welcome | None = None
        self.instances: list[str] = []
        self.refusal: HotseatError | None = None
        self.endpoint = ""
        self._info = info
        self._wake = wake
        self._exchanges: dict[RequestId, AnyExchange] = {}
        self._away_since = 0.0
        self._pinged_at = 0.0
        self._missed_pings = 0
        self._was_heard = True
        self._limit_bytes = MAX_FRAME_BYTES

    @property
    def open_exchanges(self) -> tuple[AnyExchange, ...]:
        """Exchanges that are neither over nor forgotten."""
        return tuple(self._exchanges.values())

    def start(self, exchange: AnyExchange, now: float) -> None:
        """Begins an exchange; refuses what the daemon could not decode, and an id in use."""
        if exchange.request_id in self._exchanges:
            raise HotseatError(
                "invalid_request",
                f"request {exchange.request_id} is open in this client; choose another id",
                request_id=exchange.request_id,
            )
        frames = encode_checked(
            exchange.opening, exchange.request_id, self._limit_bytes, self._version
        )
        exchange.started_at = now
        self._exchanges[exchange.request_id] = exchange
        if self.welcome is not None:
            exchange.is_sent = True
            self.outgoing.append(frames)
            self._wake()

    def forget(self, exchange: AnyExchange) -> None:
        """Lets go of an exchange; what still arrives for it is dropped."""
        self._exchanges.pop(exchange.request_id, None)

    def send(self, exchange: AnyExchange, messages: Iterable[ClientMessage]) -> None:
        """Sends on behalf of an exchange, unless the connection it belonged to is gone."""
        if self.welcome is None:
            return
        for message in messages:
            self._put(message, exchange.request_id)
            self._wake()

    @property
    def _version(self) -> int:
        """What the daemon said that it speaks; the oldest before it said anything."""
        return self.welcome.protocol if self.welcome is not None else PROTOCOL_MIN

    def _put(self, message: ClientMessage, request_id: RequestId) -> None:
        self.outgoing.append(encode_client(message, request_id, self._version))

    def connected(self, now: float) -> None:
        """A new connection exists: says Hello and nothing else."""
        self.outgoing.clear()
        self.refusal = None
        self._pinged_at, self._missed_pings, self._was_heard = now, 0, True
        hello = Hello(protocol=PROTOCOL_MAX, client=self._info, token=self.token)
        self._put(hello, _HELLO_ID)
        self._wake()

    def disconnected(self, now: float) -> None:
        """The connection is gone; exchanges wait for the next one within their patience."""
        self.outgoing.clear()
        if self.welcome is None:
            return
        self.welcome = None
        self._away_since = now
        for exchange in self.open_exchanges:
            exchange.connection_lost()
        self._drop_finished()

    def received(self, frames: list[bytes]) -> bool:
        """Takes a message in; False means that this connection is of no further use."""
        self._was_heard = True
        try:
            envelope = open_envelope(frames)
        except HotseatError as error:
            if error.code == "version_mismatch":
                self.refusal = error
                return False
            return True  # a stream that misses it finds the gap and asks again
        if envelope.request_id == _PING_ID:
            return envelope.kind != "error"
        if envelope.request_id == _HELLO_ID:
            return self._received_greeting(envelope)
        exchange = self._exchanges.get(envelope.request_id)
        if exchange is not None:
            self._received_answer(exchange, envelope)
        return True

    def _received_greeting(self, envelope: Envelope) -> bool:
        try:
            message = decode_daemon(envelope)
        except HotseatError as error:
            self.refusal = error
            return False
        if isinstance(message, ErrorBody):
            self.refusal = RequestFailed(message)
            return False
        if isinstance(message, Welcome):
            self._welcomed(message)
        return True

    def _welcomed(self, welcome: Welcome) -> None:
        self.welcome = welcome
        self._limit_bytes = welcome.limits.max_body_bytes
        if not self.instances or self.instances[-1] != welcome.instance:
            self.instances.append(welcome.instance)
        for exchange in self.open_exchanges:
            message = exchange.reopening() if exchange.is_sent else exchange.opening
            exchange.is_sent = True
            self._put(message, exchange.request_id)
        self._wake()

    def _received_answer(self, exchange: AnyExchange, envelope: Envelope) -> None:
        try:
            message = decode_daemon(envelope)
        except HotseatError as error:
            if error.code != "unknown_kind":  # a newer daemon may say more than we understand
                exchange.fail(error)
        else:
            self.send(exchange, exchange.receive(message))
        if exchange.is_over:
            self.forget(exchange)

    def end_patience(self, now: float) -> None:
        """Fails exchanges that waited long enough for a connection."""
        if self.welcome is not None:
            return
        for exchange in self.open_exchanges:
            if now - max(self._away_since, exchange.started_at) > exchange.patience_s:
                exchange.fail(self._unreachable(exchange.patience_s))
        self._drop_finished()

    def tick(self, now: float) -> bool:
        """Pings each second; False means that nobody answers any more.

        A connection without a Welcome is watched too: a hung daemon accepts connections.
        """
        if now - self._pinged_at < PING_S:
            return True
        self._missed_pings = 0 if self._was_heard else self._missed_pings + 1
        if self._missed_pings >= MISSED_PINGS:
            return False
        self._was_heard, self._pinged_at = False, now
        self._put(Ping(), _PING_ID)
        self._wake()
        return True

    def until_ping_s(self, now: float) -> float:
        """Seconds until `tick` has something to do."""
        return max(0.0, self._pinged_at + PING_S - now)

    def fail_all(self, error: HotseatError) -> None:
        """Ends every open exchange."""
        for exchange in self.open_exchanges:
            exchange.fail(error)
        self._drop_finished()

    def _drop_finished(self) -> None:
        for exchange in self.open_exchanges:
            if exchange.is_over:
                self.forget(exchange)

    def _unreachable(self, waited_s: float) -> HotseatError:
        if self.refusal is not None:
            return self.refusal
        return DaemonUnreachable(
            f"daemon went away and did not come back within {waited_s:g} s; look at "
            "`hotseat logs`, start it with `hotseat serve`",
            endpoint=self.endpoint,
        )

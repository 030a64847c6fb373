"""One request and everything that comes back for it, as a state machine. Pure: no sockets, no time.

The dialogue feeds daemon messages in and sends what `receive` and `take` return; the consumer
takes items out. After a reconnect the dialogue sends `reopening()` instead of `opening`.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from hotseat.client.errors import RequestFailed
from hotseat.protocol.credit import EVENT_COST, event_cost
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import RequestId
from hotseat.protocol.messages import ClientMessage, Credit, Events, Shutdown
from hotseat.protocol.replies import (
    DaemonMessage,
    ErrorBody,
    Event,
    Gap,
    Progress,
    Reply,
    SwapReport,
)
from hotseat.protocol.telemetry import SAMPLED

Item = TypeVar("Item")
Result = TypeVar("Result")
NOTHING_TO_SEND: tuple[ClientMessage, ...] = ()


def _nobody_waits() -> None:
    """Stands in until a consumer registers itself."""


class Exchange(Generic[Item, Result]):
    """Items in order, then exactly one result or error.

    Attributes:
        opening: the message that starts the exchange; sent again after a reconnect, which is
            harmless for every kind that reads or that the daemon knows by its request id.
        patience_s: how long the exchange survives without a connection.
        wake: called whenever there is something new for the consumer.
    """

    def __init__(self, request_id: RequestId, opening: ClientMessage, patience_s: float) -> None:
        self.request_id = request_id
        self.opening = opening
        self.patience_s = patience_s
        self.is_sent = False
        self.started_at = 0.0
        self.wake: Callable[[], None] = _nobody_waits
        self.result: Result | None = None
        self.error: HotseatError | None = None
        self._inbox: deque[tuple[Item, int]] = deque()

    @property
    def is_over(self) -> bool:
        """True once result or error is known; items may still wait in front of it."""
        return self.result is not None or self.error is not None

    def reopening(self) -> ClientMessage:
        """What to send after a reconnect."""
        return self.opening

    def receive(self, message: DaemonMessage) -> Iterable[ClientMessage]:
        """Takes a message of the daemon in; returns what has to be sent now."""
        self.refuse(message)
        return NOTHING_TO_SEND

    def take(self) -> tuple[Item | None, Iterable[ClientMessage]]:
        """Next item, if there is one, and what has to be sent because it was taken."""
        if not self._inbox:
            return None, NOTHING_TO_SEND
        item, cost_bytes = self._inbox.popleft()
        return item, self.consumed(cost_bytes)

    def consumed(self, cost_bytes: int) -> Iterable[ClientMessage]:
        """What has to be sent because an item of this cost left the inbox."""
        del cost_bytes
        return NOTHING_TO_SEND

    def is_worth_telling(self, cost_bytes: int) -> bool:
        """True if `consumed` would have something sent; from any thread."""
        del cost_bytes
        return False

    def pop(self) -> tuple[Item, int] | None:
        """The next item and its cost, if there is one: `consumed` is owed. From any thread."""
        return self._inbox.popleft() if self._inbox else None

    def finish(self, result: Result) -> None:
        """Ends well; a second end changes nothing."""
        if not self.is_over:
            self.result = result
        self.wake()

    def fail(self, error: HotseatError) -> None:
        """Ends badly; a second end changes nothing."""
        if not self.is_over:
            self.error = error
        self.wake()

    def connection_lost(self) -> None:
        """Told once per lost connection; most exchanges simply wait for the next one."""

    def refuse(self, message: DaemonMessage) -> None:
        """Ends on an error of the daemon, or on a message that does not belong here."""
        if isinstance(message, ErrorBody):
            self.fail(RequestFailed(message))
        else:
            kind = type(message).__name__
            self.fail(
                HotseatError(
                    "bad_frame",
                    f"daemon answered {self.request_id} with {kind}; "
                    "client and daemon are of different versions",
                    kind=kind,
                )
            )

    def _add(self, item: Item, cost_bytes: int = 0) -> None:
        self._inbox.append((item, cost_bytes))
        self.wake()


class Window:
    """Credit of one stream: counts what was consumed, refills when half of the window is used."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._buffered_bytes = 0
        self._consumed_bytes = 0

    def buffered(self, cost_bytes: int) -> None:
        """A message arrived and was not consumed yet."""
        self._buffered_bytes += cost_bytes

    def consumed(self, cost_bytes: int) -> Iterable[ClientMessage]:
        """A message was consumed; grants when it is worth a frame."""
        self._buffered_bytes -= cost_bytes
        self._consumed_bytes += cost_bytes
        if self._consumed_bytes * 2 < self._size_bytes:
            return NOTHING_TO_SEND
        grant, self._consumed_bytes = self._consumed_bytes, 0
        return (Credit(grant_bytes=grant),)

    def is_due(self, cost_bytes: int) -> bool:
        """True if so much more would be worth a grant."""
        return (self._consumed_bytes + cost_bytes) * 2 >= self._size_bytes

    def restart(self) -> int:
        """First grant of a new connection: the window less what still waits here."""
        self._consumed_bytes = 0
        return max(1, self._size_bytes - self._buffered_bytes)


class Call(Exchange[Reply, Reply]):
    """A request with one reply."""

    def receive(self, message: DaemonMessage) -> Iterable[ClientMessage]:
        """Ends with the reply."""
        if isinstance(message, Reply):
            self.finish(message)
        else:
            self.refuse(message)
        return NOTHING_TO_SEND

    def connection_lost(self) -> None:
        """A daemon that went away was shut down; any other call waits for its return."""
        if isinstance(self.opening, Shutdown) and self.is_sent:
            self.finish(Reply(result={"stopping": True}))


class SwapExchange(Exchange[Progress, SwapReport]):
    """A swap: its phases, then its report. Asked again after a reconnect it stays one swap."""

    def receive(self, message: DaemonMessage) -> Iterable[ClientMessage]:
        """Collects phases until the report or an error."""
        if isinstance(message, Progress):
            self._add(message)
        elif isinstance(message, SwapReport):
            self.finish(message)
        else:
            self.refuse(message)
        return NOTHING_TO_SEND


class Subscription(Exchange[Event | Gap, Reply]):
    """Events from a sequence number on; goes on behind the last one seen after a reconnect."""

    def __init__(self, request_id: RequestId, opening: Events, patience_s: float) -> None:
        super().__init__(request_id, opening, patience_s)
        self._events = opening
        self._last_seq = opening.since
        self._window = Window(opening.credit_bytes or 1)

    def reopening(self) -> ClientMessage:
        """Asks for what came after the last event seen."""
        return Events(
            since=self._last_seq,
            topics=self._events.topics,
            credit_bytes=self._window.restart(),
        )

    def receive(self, message: DaemonMessage) -> Iterable[ClientMessage]:
        """Drops what was seen before, keeps the order of the daemon."""
        match message:
            case Event(name=name) if name == SAMPLED:
                pass  # carries the number of the event before it
            case Event(seq=seq):
                if self._last_seq is not None and seq <= self._last_seq:
                    self._window.buffered(EVENT_COST)
                    return self._window.consumed(EVENT_COST)
                self._last_seq = seq
            case Gap(next_seq=next_seq):
                self._last_seq = next_seq - 1
            case Reply():
                self.finish(message)
                return NOTHING_TO_SEND
            case _:
                self.refuse(message)
                return NOTHING_TO_SEND
        cost = event_cost(message)
        self._window.buffered(cost)
        self._add(message, cost)
        return NOTHING_TO_SEND

    def is_worth_telling(self, cost_bytes: int) -> bool:
        """True if it brings a grant."""
        return self._window.is_due(cost_bytes)

    def consumed(self, cost_bytes: int) -> Iterable[ClientMessage]:
        """Grants credit as events leave the inbox."""
        return self._window.consumed(cost_bytes)

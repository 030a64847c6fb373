"""Lifecycle events: numbered, kept in a ring, delivered to subscribers in order. No sockets.

A subscriber is a place in the ring: who reads slowly is served later, never skipped in silence.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

import structlog

from hotseat.protocol.credit import EVENT_COST
from hotseat.protocol.replies import Event, Gap

RING: Final = 4096
_SEQ_PER_MS: Final = 1024
"""A daemon that starts twice within a second still numbers on; fits 2**53 for centuries."""
_ALL_EVENTS: Final = 2**62
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
log = structlog.get_logger()

Deliver = Callable[[Event | Gap], None]


class Subscriber:
    """One reader of events, at sequence number `next_seq`."""

    def __init__(
        self,
        deliver: Deliver,
        since: int,
        topics: tuple[str, ...],
        credit_bytes: int,
        status: Callable[[], dict[str, Any]],
    ) -> None:
        """`status` is what the reader gets when events were missed."""
        self.deliver = deliver
        self.status = status
        self.next_seq = since + 1
        self.topics = topics
        self.credit_bytes = credit_bytes

    def wants(self, event: Event) -> bool:
        """True when the event's name begins with one of the topics, or none are named."""
        return not self.topics or event.name.startswith(self.topics)


class EventLog:
    """Publishes events. Sequence numbers grow over restarts, so an old `since` gives a gap."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        """`on_event` gets every event before its readers do."""
        self._on_event = on_event
        self._ring: deque[Event] = deque(maxlen=RING)
        self._last = int(time.time() * 1000) * _SEQ_PER_MS
        self._first = self._last + 1
        self._subscribers: list[Subscriber] = []

    @property
    def last_seq(self) -> int:
        """Number of the newest event."""
        return self._last

    def publish(self, name: str, *, unlogged: Mapping[str, Any] = _NOTHING, **facts: Any) -> Event:
        """Numbers, logs and delivers an event. Facts are JSON-safe and hold no prompt text.

        `unlogged` facts may: they reach subscribers and never the log.
        """
        self._last += 1
        event = Event(seq=self._last, at=time.time(), name=name, facts={**facts, **unlogged})
        self._ring.append(event)
        self._first = self._ring[0].seq
        log.info(name, **facts)
        self._on_event(event)
        for subscriber in tuple(self._subscribers):
            self._pump(subscriber)
        return event

    def watch(self, look: Callable[[], None]) -> None:
        """Calls `look` at every event from now on; for parts of the daemon, which miss none."""
        everything = Subscriber(lambda _item: look(), self._last, (), _ALL_EVENTS, dict)
        self._subscribers.append(everything)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Begins delivery; what is asked for and gone arrives as a gap first.

        So does a number that was never given: whoever names it followed another daemon.
        """
        if subscriber.next_seq > self._last + 1:
            subscriber.next_seq = 0
        self._subscribers.append(subscriber)
        self._pump(subscriber)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Ends delivery; a second call does nothing."""
        if subscriber in self._subscribers:
            self._subscribers.remove(subscriber)

    def grant(self, subscriber: Subscriber, credit_bytes: int) -> None:
        """The reader takes more."""
        subscriber.credit_bytes += credit_bytes
        self._pump(subscriber)

    def _pump(self, subscriber: Subscriber) -> None:
        if subscriber.credit_bytes <= 0:
            return  # also no gap: one is enough, when there is credit again
        if subscriber.next_seq < self._first:
            since = max(0, subscriber.next_seq - 1)
            subscriber.next_seq = self._first
            status = subscriber.status()
            subscriber.deliver(Gap(since=since, next_seq=self._first, status=status))
        start = subscriber.next_seq - self._first
        for event in list(islice(self._ring, start, None)):
            if subscriber.credit_bytes <= 0:
                return
            subscriber.next_seq = event.seq + 1
            if subscriber.wants(event):
                subscriber.credit_bytes -= EVENT_COST
                subscriber.deliver(event)

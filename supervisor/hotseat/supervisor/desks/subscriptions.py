"""Streams of events and samples: who has subscribed, and until when."""

from collections.abc import Callable
from typing import Any

from hotseat.protocol.ids import RequestId
from hotseat.protocol.limits import DEFAULT_CREDIT_BYTES
from hotseat.protocol.messages import Events
from hotseat.protocol.replies import Event, Gap
from hotseat.protocol.telemetry import wants_telemetry
from hotseat.supervisor.events.log import EventLog, Subscriber
from hotseat.supervisor.ports.client_port import ClientPort, Peer
from hotseat.supervisor.telemetry.feed import TelemetryFeed


class Subscriptions:
    """Of all peers. `status` is what a reader gets who missed events."""

    def __init__(
        self,
        port: ClientPort,
        events: EventLog,
        feed: TelemetryFeed,
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self._port = port
        self._events = events
        self._feed = feed
        self._status = status
        self._subscribers: dict[tuple[bytes, RequestId], Subscriber] = {}

    def subscribe(self, peer: Peer, request_id: RequestId, message: Events) -> None:
        """Streams events under this request id until it is cancelled or the peer is gone."""
        self.unsubscribe(peer, request_id)

        def deliver(item: Event | Gap) -> None:
            self._port.send(peer, request_id, item)

        since = self._events.last_seq if message.since is None else message.since
        credit = message.credit_bytes or DEFAULT_CREDIT_BYTES
        subscriber = Subscriber(deliver, since, message.topics, credit, self._status)
        self._subscribers[peer.routing, request_id] = subscriber
        self._events.subscribe(subscriber)
        if wants_telemetry(message.topics):
            self._feed.add(subscriber, replays=message.since == 0)

    def unsubscribe(self, peer: Peer, request_id: RequestId) -> bool:
        """False when there was no such subscription."""
        subscriber = self._subscribers.pop((peer.routing, request_id), None)
        if subscriber is not None:
            self._events.unsubscribe(subscriber)
            self._feed.remove(subscriber)
        return subscriber is not None

    def grant(self, peer: Peer, request_id: RequestId, credit_bytes: int) -> None:
        """More credit for a subscription, if there is one."""
        subscriber = self._subscribers.get((peer.routing, request_id))
        if subscriber is not None:
            self._events.grant(subscriber, credit_bytes)

    def forget(self, peer: Peer) -> None:
        """The peer is gone."""
        for routing, request_id in tuple(self._subscribers):
            if routing == peer.routing:
                self.unsubscribe(peer, request_id)

"""What a recording is made of: samples and the events that explain them, as they come."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from hotseat.protocol.replies import Event, Gap
from hotseat.protocol.telemetry import SAMPLED, TELEMETRY_TOPIC

if TYPE_CHECKING:
    from hotseat.client.sync import Client

TOPICS: Final = (TELEMETRY_TOPIC, "swap", "seat", "memory", "daemon", "worker")
_LOOK_S: Final = 0.5


def recorded_items(client: "Client", *, for_s: float | None, kept: bool) -> Iterator[Event | Gap]:
    """Until the time is over; with `kept`, first what the daemon still has."""
    until = None if for_s is None else time.monotonic() + for_s
    last_at = 0.0
    with client.events(0 if kept else None, TOPICS) as events:
        while until is None or time.monotonic() < until:
            item = events.next(timeout_s=_LOOK_S)
            if isinstance(item, Event) and item.name == SAMPLED:
                if item.at <= last_at:
                    continue  # seen before a reconnect
                last_at = item.at
            if item is not None:
                yield item

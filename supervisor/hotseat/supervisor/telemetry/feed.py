"""Brings samples to those who subscribed to the topic `telemetry`. Lives on the loop.

Samples are not numbered like events and may be skipped: a reader without credit misses them.
"""

import asyncio
from typing import Any

import msgspec

from hotseat.protocol.credit import EVENT_COST
from hotseat.protocol.replies import Event
from hotseat.protocol.telemetry import SAMPLED, Sample
from hotseat.supervisor.events.log import EventLog, Subscriber
from hotseat.supervisor.telemetry.sample_taker import SampleTaker
from hotseat.supervisor.telemetry.sampler import Sampler


class TelemetryFeed:
    """Owns the sampler and its readers."""

    def __init__(self, samples: SampleTaker, events: EventLog) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._readers: list[Subscriber] = []
        self._events = events
        self.sampler = Sampler(samples.take, samples.is_working, self._from_thread)

    def start(self) -> None:
        """Begins; every lifecycle event makes the sampler look whether work began."""
        self._loop = asyncio.get_running_loop()
        self._events.watch(self.sampler.nudge)
        self.sampler.start()

    def close(self) -> None:
        """Ends the thread."""
        self._loop = None
        self.sampler.close()

    def add(self, reader: Subscriber, *, replays: bool) -> None:
        """A new reader; with `replays` first what is kept, as far as half of its credit goes."""
        if replays:
            for sample in self.sampler.kept(reader.credit_bytes // (2 * EVENT_COST)):
                _deliver(reader, sample)
        self._readers.append(reader)
        self.sampler.watch()

    def remove(self, reader: Subscriber) -> None:
        """A reader is gone; one that never was changes nothing."""
        if reader in self._readers:
            self._readers.remove(reader)
            self.sampler.unwatch()

    def _from_thread(self, sample: Sample) -> None:
        loop = self._loop
        if self._readers and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._share, sample)

    def _share(self, sample: Sample) -> None:
        for reader in tuple(self._readers):
            _deliver(reader, sample)


def _deliver(reader: Subscriber, sample: Sample) -> None:
    """Under the number of the last lifecycle event: a sample has none of its own."""
    if reader.credit_bytes <= 0:
        return
    reader.credit_bytes -= EVENT_COST
    facts: dict[str, Any] = msgspec.to_builtins(sample)
    reader.deliver(Event(seq=max(0, reader.next_seq - 1), at=sample.at, name=SAMPLED, facts=facts))

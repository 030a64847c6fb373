"""What is recorded and where it goes, until the time is over, Ctrl-C or a reader that went away."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from hotseat.cli.recording.file import json_line, started_line
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Event, Gap
from hotseat.protocol.telemetry import SAMPLED, TELEMETRY_TOPIC

if TYPE_CHECKING:
    from hotseat.client.sync import Client

TOPICS: Final = (TELEMETRY_TOPIC, "swap", "seat", "memory", "daemon", "worker")
_LOOK_S: Final = 0.5


def record_to(client: "Client", out: Path | None, *, for_s: float | None, kept: bool) -> int:
    """Records to a file or stdout; how many samples it was. Ctrl-C is a good end."""
    if out is None:
        return _record(client, sys.stdout.buffer, for_s=for_s, kept=kept)
    try:
        with out.open("wb") as target:
            return _record(client, target, for_s=for_s, kept=kept)
    except OSError as error:
        raise HotseatError("invalid_request", f"{out}: {error.strerror}") from error


def _record(client: "Client", target: IO[bytes], *, for_s: float | None, kept: bool) -> int:
    """Each line is flushed, so that what was written survives whatever ends us."""
    count = 0
    try:
        target.write(started_line())
        for item in _recorded_items(client, for_s=for_s, kept=kept):
            target.write(json_line(item))
            target.flush()
            count += isinstance(item, Event) and item.name == SAMPLED
    except KeyboardInterrupt:
        target.flush()
    return count


def _recorded_items(client: "Client", *, for_s: float | None, kept: bool) -> Iterator[Event | Gap]:
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

"""Events for people and for scripts: what is kept, what comes, and how a line looks."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from hotseat.cli.terminal.output import printable
from hotseat.cli.views.fact import facts_text
from hotseat.protocol.replies import Event, Gap

if TYPE_CHECKING:
    from hotseat.client.sync import Client

_QUIET_S: Final = 0.3
"""The daemon replays its ring without a mark at the end; after this pause it was all."""


def kept_events(client: "Client", since: int | None, topics: Sequence[str]) -> Iterator[Event]:
    """Events the daemon still has, oldest first; a gap before them only says that it is a ring."""
    with client.events(0 if since is None else since, topics) as events:
        while (item := events.next(timeout_s=_QUIET_S)) is not None:
            if isinstance(item, Event):
                yield item


def follow_events(
    client: "Client", since: int | None, topics: Sequence[str]
) -> Iterator[Event | Gap]:
    """Events as they come, for ever."""
    with client.events(since, topics) as events:
        yield from events


def print_event(item: Event | Gap, *, as_json: bool) -> None:
    """One line; a gap is named, never hidden."""
    if as_json:
        line = msgspec.json.encode(item).decode()
    elif isinstance(item, Gap):
        line = f"-- events {item.since + 1} to {item.next_seq - 1} are no longer kept --"
    else:
        when = time.strftime("%H:%M:%S", time.localtime(item.at))
        line = f"{when}  {item.name:<24}  {facts_text(item.facts)}"
    sys.stdout.write((line if as_json else printable(line)).rstrip() + "\n")
    sys.stdout.flush()

"""Follows what happens: `python events.py [COUNT]`; ends after COUNT events."""

import sys

from hotseat.client import Client
from hotseat.protocol.replies import Event

left = int(sys.argv[1]) if len(sys.argv) > 1 else 20
with (
    Client(name="events") as client,
    client.events(0, topics=["swap", "request", "daemon"]) as feed,
):
    for item in feed:
        if isinstance(item, Event):
            print(item.name, {name: item.facts[name] for name in list(item.facts)[:3]}, flush=True)
            left -= 1
        if left <= 0:
            break

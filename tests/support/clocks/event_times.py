"""Events of a daemon with the time at which each was heard."""

import threading
import time

from hotseat.protocol.replies import Event
from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.watching import Watcher
from tests.support.peers.raw_peer import RawPeer


class EventTimes(Watcher):
    """Listens on a thread until it is left."""

    def __init__(self, daemon):
        super().__init__()
        self._address = daemon.endpoint().requests
        self._listens = threading.Event()
        self.heard = []

    def _watch(self):
        with RawPeer(self._address) as peer:
            peer.pack("events", {"credit_bytes": 10**9}, "e")
            peer.pack("status", {}, "s")
            while not self._is_over.is_set():
                got = peer.receive(0.02)
                if got is None:
                    peer.ping()
                elif got[0] == "s":
                    self._listens.set()
                elif isinstance(got[1], Event):
                    self.heard.append((time.monotonic(), got[1]))

    def __enter__(self):
        super().__enter__()
        assert self._listens.wait(20)
        return self

    def named(self, name, since=0.0, **facts):
        """(time, event) of that name behind `since`, with at least these facts."""
        return [
            (at, event)
            for at, event in tuple(self.heard)
            if event.name == name
            and at >= since
            and all(event.facts.get(key) == value for key, value in facts.items())
        ]

    def wait(self, name, since=0.0, timeout_s=15.0, **facts):
        """The first such (time, event)."""
        found = wait_for(lambda: self.named(name, since, **facts), timeout_s, f"event {name}")
        return found[0]

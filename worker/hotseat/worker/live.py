"""KV of idle sessions in memory, least recently used first. Must not know disk or requests."""

from collections import OrderedDict
from typing import Any

from hotseat.worker.steps import common_prefix
from hotseat.worker.trace import Trace


class LiveSession:
    """Caches of a session between two turns. `persist` False: it must never reach the disk."""

    def __init__(self, name: str, caches: list[Any], trace: Trace, *, persist: bool) -> None:
        self.name = name
        self.caches = caches
        self.trace = trace
        self.persist = persist
        self.is_leaving = False
        """Its tail is being written and it goes as soon as that is done."""
        self.size_bytes = sum(int(cache.nbytes) for cache in caches)

    @property
    def is_safe(self) -> bool:
        """True if dropping it loses nothing that could still be written."""
        return not self.persist or self.trace.is_tail_stored

    def usable_prefix(self, tokens: list[int]) -> int:
        """How many leading `tokens` these caches can serve; one is always left to feed."""
        shared = common_prefix(self.trace.tokens, tokens[:-1])
        if shared == self.trace.position:
            return shared
        return shared if all(cache.is_trimmable() for cache in self.caches) else 0

    def trim(self, position: int) -> None:
        """Cut back to `position`, at most `usable_prefix`."""
        surplus = self.trace.position - position
        if surplus:
            for cache in self.caches:
                cache.trim(surplus)
            self.trace.trim(position)


class LiveTier:
    """Idle sessions by name. The engine's thread owns it."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, LiveSession] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def names(self) -> tuple[str, ...]:
        """Names, least recently used first."""
        return tuple(self._sessions)

    def sessions(self) -> tuple[LiveSession, ...]:
        """All of them, least recently used first."""
        return tuple(self._sessions.values())

    def find(self, name: str | None) -> LiveSession | None:
        """The session of this name, left where it is."""
        return None if name is None else self._sessions.get(name)

    def keep(self, session: LiveSession) -> None:
        """Takes it in as the most recently used one; an older one of its name goes."""
        self.take(session.name)
        self._sessions[session.name] = session
        self.size_bytes += session.size_bytes

    def take(self, name: str | None) -> LiveSession | None:
        """Removes and returns it."""
        session = None if name is None else self._sessions.pop(name, None)
        if session is not None:
            self.size_bytes -= session.size_bytes
        return session

    def clear(self) -> None:
        """Drops everything."""
        self._sessions.clear()
        self.size_bytes = 0

"""KV of idle sessions in memory, least recently used first. Must not know disk or requests."""

from collections import OrderedDict
from typing import Any

from mlx_lm.models.cache import ArraysCache

from hotseat.protocol.ids import BlockId
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.worker.context.capture import rebuild_state
from hotseat.worker.context.steps import common_prefix
from hotseat.worker.context.trace import Trace
from hotseat.worker.model.caches import FullKVCache, is_cuttable, leaves


class LiveSession:
    """Caches of a session between two turns. `persist` False: it must never reach the disk."""

    def __init__(self, name: str, caches: list[Any], trace: Trace, *, persist: bool) -> None:
        self.name = name
        self.caches = caches
        self.trace = trace
        self.persist = persist
        self.is_leaving = False
        """Its tail is being written and it goes as soon as that is done."""
        snapshot = trace.snapshot.size_bytes if trace.snapshot is not None else 0
        self.size_bytes = sum(int(cache.nbytes) for cache in caches) + snapshot

    @property
    def is_safe(self) -> bool:
        """True if dropping it loses nothing that could still be written."""
        return not self.persist or self.trace.is_tail_stored

    def usable_prefix(self, tokens: list[int], chain: list[BlockId]) -> int:
        """How many leading `tokens` these caches can serve; one is always left to feed.

        `chain` are the blocks of `tokens` without the last one.
        """
        shared = self._shared_prefix(tokens, chain)
        if shared == self.trace.position:
            return shared
        if self.trace.is_recurrent:
            snapshot = self.trace.snapshot
            if snapshot is None or snapshot.position > shared:
                return 0
            shared = snapshot.position
        return shared if all(is_cuttable(cache) for cache in leaves(self.caches)) else 0

    def _shared_prefix(self, tokens: list[int], chain: list[BlockId]) -> int:
        """An id stands for all tokens before its end, so that few of them are looked at."""
        start = common_prefix(self.trace.chain, chain) * BLOCK_TOKENS
        end = min(start + BLOCK_TOKENS, len(tokens) - 1)
        return start + common_prefix(self.trace.tokens[start:end], tokens[start:end])

    def trim(self, position: int) -> None:
        """Cut back to `position`, which `usable_prefix` gave."""
        surplus = self.trace.position - position
        if not surplus:
            return
        snapshot = self.trace.snapshot
        for entry, cache in enumerate(leaves(self.caches)):
            if isinstance(cache, ArraysCache) and snapshot is not None:
                cache.cache = rebuild_state(
                    [part for part in snapshot.states if part.entry == entry]
                )
            elif isinstance(cache, FullKVCache):
                cache.cut(position)
            else:
                cache.trim(surplus)
        self.trace.trim(position)


class LiveTier:
    """Idle sessions by name. The engine's thread owns it."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, LiveSession] = OrderedDict()
        self.size_bytes = 0
        self.changes = 0
        """Grows whenever a session comes or goes."""

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
        self.changes += 1

    def take(self, name: str | None) -> LiveSession | None:
        """Removes and returns it."""
        session = None if name is None else self._sessions.pop(name, None)
        if session is not None:
            self.size_bytes -= session.size_bytes
            self.changes += 1
        return session

    def clear(self) -> None:
        """Drops everything."""
        self._sessions.clear()
        self.size_bytes = 0
        self.changes += 1

"""Where the KV of a prompt comes from: a context in memory, files, or nothing yet.

The source is chosen once for an admission and handed on as a value. Runs on the engine's thread.
Must not know lanes, budgets or how a request ends.
"""

import time
from typing import Any

from msgspec import Struct

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.link_reports import Quarantined
from hotseat.protocol.tokens import root_id
from hotseat.worker.batch.long_contexts import LongContexts
from hotseat.worker.batch.prefix_divergence import leaving_report
from hotseat.worker.batch.turn import Turn
from hotseat.worker.context.capture import MakeCache, Room
from hotseat.worker.context.keeper import Send
from hotseat.worker.context.live import LiveTier
from hotseat.worker.context.restoring import (
    NOTHING_STORED,
    plan_restore,
    rebuild_sequence,
    without_damaged,
)
from hotseat.worker.context.steps import StepLog
from hotseat.worker.context.streamed import begin_streamed
from hotseat.worker.context.trace import Trace
from hotseat.worker.context.twins import twin_of
from hotseat.worker.dying import pass_on_loss
from hotseat.worker.model.caches import new_caches
from hotseat.worker.model.loading import SeatedModel
from hotseat.worker.store.reader import Restorer, RestoreResult


class ContextSource(Struct, frozen=True):
    """The live context that serves most of a prompt, chosen after `as_of` changes of the live tier.

    `live` is its name, since whoever holds a context holds its memory; None if none serves.
    """

    turn: Turn
    as_of: int
    live: str | None = None
    usable_tokens: int = 0
    """How many leading tokens of the prompt it serves."""
    is_own: bool = False
    """False for a context that another session goes on with."""
    is_enough: bool = False
    """True if nothing on disk could add to it."""


def choose_source(turn: Turn, tier: LiveTier) -> ContextSource:
    """Kept at suspension, the session's, or another one's; of equals the request's own is taken."""
    names = (turn.suspended_as, turn.session)
    own = [one for name in names if (one := tier.find(name))]
    best, most = None, 0
    for one in (*own, *(one for one in tier.sessions() if one.name not in names)):
        usable = one.usable_prefix(turn.ids, turn.chain)
        if usable > most or (best is None and one in own):
            best, most = one, usable
    if best is None:
        return ContextSource(turn, tier.changes)
    is_own = best in own
    # Another session's beginning is no reason not to ask for the own tail on disk.
    is_whole = is_own and most == best.trace.position
    is_enough = is_whole or most >= len(turn.ids) - 1
    return ContextSource(turn, tier.changes, best.name, most, is_own, is_enough)


class Fetch:
    """The KV of one admitted request on its way: `caches` are None until all of it is here."""

    def __init__(self, source: ContextSource) -> None:
        self.source = source
        self.caches: list[Any] | None = None
        self.plan = NOTHING_STORED
        self.room: Room | None = None
        """Memory for what is being read."""
        self.live_tokens = 0
        self.miss = ""
        self.began_at = time.monotonic()


class ContextFetcher:
    """Gets what sources say: at once from memory, a while later from files."""

    def __init__(
        self,
        seated: SeatedModel,
        tier: LiveTier,
        restorer: Restorer,
        long: LongContexts,
        send: Send,
    ) -> None:
        self._seated = seated
        self._record = seated.record
        self._tier = tier
        self._restorer = restorer
        self._long = long
        self._send = send

    def begin(self, source: ContextSource) -> Fetch:
        """Takes the live context, or begins to read; what is the request's own leaves the tier."""
        turn, live = source.turn, self._tier.find(source.live)
        fetch = Fetch(source)
        self._tier.take(turn.suspended_as)
        if source.is_own:
            self._tier.take(source.live)
        if turn.known is not None:
            fetch.plan = plan_restore(self._record, turn.ids, turn.chain, turn.known)
        decode = self._seated.kit.tokenizer.decode
        left = leaving_report(turn, root_id(self._record.tag), live, decode)
        if left is not None:
            self._send(left)
        if turn.streamed is not None:
            live = None
        if live is not None and source.usable_tokens >= max(1, fetch.plan.position):
            if not source.is_own:
                live = twin_of(live, turn.start.persist)
            live.trim(source.usable_tokens)
            fetch.live_tokens = source.usable_tokens
            fetch.caches, turn.trace = live.caches, live.trace
        elif fetch.plan.position:
            self._read(fetch)
            if turn.streamed is None:
                fetch.room = Room(self._record, fetch.plan.position).begin()
        else:
            self._begin_empty(fetch)
        return fetch

    def poll(self, fetch: Fetch | None) -> bool:
        """Takes what was read; True if `fetch` moved on by it."""
        moved = False
        for result in self._restorer.poll():
            for bad in result.bad_files:
                self._send(Quarantined(file=bad.file, reason=bad.reason, block=bad.block))
            is_awaited = fetch is not None and fetch.caches is None
            if fetch is not None and is_awaited and _request_of(fetch) == result.request:
                self._take(fetch, result)
                moved = True
        return moved

    def cancel(self, fetch: Fetch) -> None:
        """What is being read for it is not wanted any more."""
        self._restorer.cancel(_request_of(fetch))

    def _read(self, fetch: Fetch) -> None:
        streamed = fetch.source.turn.streamed
        left_out = frozenset() if streamed is None else streamed.entries
        self._restorer.begin(_request_of(fetch), fetch.plan.blocks, fetch.plan.tail, left_out)

    def _begin_empty(self, fetch: Fetch) -> None:
        is_recurrent = self._record.is_recurrent
        log = StepLog(0, since=0 if is_recurrent else None)
        fetch.source.turn.trace = Trace(self._record.tag, [], log, is_recurrent=is_recurrent)
        streamed, model = fetch.source.turn.streamed, self._seated.model
        if streamed is None:
            fetch.caches = new_caches(model)
        else:
            fetch.caches = begin_streamed(model, self._record, streamed)

    def _take(self, fetch: Fetch, result: RestoreResult) -> None:
        turn = fetch.source.turn
        hint = turn.hint if turn.hint and turn.hint.boundary <= turn.agree else None
        fetch.miss = fetch.miss or result.miss
        try:
            room, fetch.room = fetch.room, None
            in_files = self._open_files(fetch, result)
            restored = rebuild_sequence(
                self._record, turn.ids, fetch.plan, result, hint, room, in_files
            )
        except Exception as error:  # noqa: BLE001 - what cannot be restored is computed
            pass_on_loss(error)
            restored = None
            fetch.miss = fetch.miss or f"restore failed: {error}"
        if restored is None:
            self._begin_again(fetch, result)
        else:
            fetch.caches, turn.trace = restored.caches, restored.trace
            if turn.streamed is not None:
                restored.trace.in_files = restored.trace.stored_blocks

    def _open_files(self, fetch: Fetch, result: RestoreResult) -> dict[int, MakeCache]:
        """Of a context that does not fit into memory. Raises BlockLostError."""
        streamed = fetch.source.turn.streamed
        if streamed is None:
            return {}
        self._long.open_blocks(streamed, fetch.plan.blocks[: len(result.payloads)])
        return streamed.caches()

    def _begin_again(self, fetch: Fetch, result: RestoreResult) -> None:
        """Tries the snapshot before the one that could not be used, else starts from nothing."""
        turn = fetch.source.turn
        if turn.streamed is not None:
            turn.streamed.close()  # blocks may have been opened for what could not be used
        known = turn.known and without_damaged(turn.known, fetch.plan, result)
        if known is not None and self._record.is_recurrent:
            turn.known = known
            fetch.plan = plan_restore(self._record, turn.ids, turn.chain, known)
            if fetch.plan.position:
                self._read(fetch)
                return
        self._begin_empty(fetch)


def _request_of(fetch: Fetch) -> RequestKey:
    return fetch.source.turn.start.request

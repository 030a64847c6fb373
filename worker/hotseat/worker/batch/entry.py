"""The way of a request into a batch: rendered, looked up, admitted, restored, inserted in order.

One request at a time is let in and feeds its prompt: what a prompt costs the others stays one
chunk. Runs on the engine's thread. Must not know tokens' text or how a turn ends in a lane.
"""

import time
from collections import deque

from msgspec import Struct

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import RequestKey
from hotseat.protocol.link_orders import Known, Start
from hotseat.protocol.link_reports import Lookup, Refused, Started
from hotseat.protocol.tokens import pack_tokens
from hotseat.worker.batch.context_source import (
    ContextFetcher,
    ContextSource,
    Fetch,
    choose_source,
)
from hotseat.worker.batch.endings import Endings
from hotseat.worker.batch.lane import MAX_ROWS, Lane
from hotseat.worker.batch.long_contexts import LongContexts
from hotseat.worker.batch.runner import Runner
from hotseat.worker.batch.turn import Turn, check_prompt, needed_tokens, render_prompt
from hotseat.worker.context.capture import RowView
from hotseat.worker.context.keeper import Keeper, Send
from hotseat.worker.model.budget import RESERVE_TOKENS, KvBudget
from hotseat.worker.model.loading import SeatedModel


class _Entering(Struct, frozen=True):
    """The request that has a place in a lane and is not inserted yet."""

    lane: Lane
    fetch: Fetch

    @property
    def turn(self) -> Turn:
        return self.fetch.source.turn

    @property
    def is_ready(self) -> bool:
        return self.fetch.caches is not None


class BatchEntry:
    """Requests that wait, first come first served, each with the source of its KV."""

    def __init__(
        self,
        seated: SeatedModel,
        budget: KvBudget,
        keeper: Keeper,
        endings: Endings,
        runner: Runner,
        fetcher: ContextFetcher,
        long: LongContexts,
        send: Send,
    ) -> None:
        self._seated = seated
        self._record = seated.record
        self._budget = budget
        self._keeper = keeper
        self._endings = endings
        self._runner = runner
        self._fetcher = fetcher
        self._send = send
        self._long = long
        self._waiting: deque[ContextSource] = deque()
        self._entering: _Entering | None = None

    def __len__(self) -> int:
        return len(self._waiting) + (self._entering is not None)

    def turns(self) -> list[Turn]:
        """All requests that are not in a batch yet."""
        waiting = [source.turn for source in self._waiting]
        return [*waiting, *([self._entering.turn] if self._entering else [])]

    def offer(self, start: Start) -> None:
        """Queues a request, or answers Refused."""
        try:
            prompt = render_prompt(self._seated.kit.renderer, start)
            length = needed_tokens(start, prompt)
            fit = self._long.fit_tokens(start, length)
            why = self._long.why_no_longer(start, length) if length >= fit else ""
            check_prompt(start, prompt, self._record, fit, why)
            turn = Turn(start, prompt, self._seated, fit)
        except HotseatError as error:
            refused = Refused(
                request=start.request, code=error.code, message=error.message, facts=error.facts
            )
            self._send(refused)
            return
        source = self._choose_source(turn)
        self._waiting.append(source)
        if not self._held_live(turn):
            self._awaits_disk(source)

    def known(self, answer: Known) -> None:
        """Takes the answer to a Lookup; one for a request that is gone is ignored."""
        for turn in (source.turn for source in self._waiting):
            if turn.start.request == answer.request and turn.stage == "asked":
                turn.known = turn.in_first_shapes(answer)
                turn.stage = "new"

    def cancel(self, request: RequestKey) -> bool:
        """Ends a request that is not in a batch yet; False if it is not here."""
        if (entering := self._withdraw_entering(request)) is not None:
            self._keep(entering.fetch, entering.turn.session)
            self._endings.finish_unstarted(entering.turn)
            return True
        if (turn := self._withdraw_waiting(request)) is not None:
            self._endings.finish_unstarted(turn)
            return True
        return False

    def suspend(self, request: RequestKey, hold_as: str) -> bool:
        """Takes a request out that is not in a batch yet; False if it is not here."""
        if (entering := self._withdraw_entering(request)) is not None:
            turn = entering.turn
            # KV that is the session's alone goes back to it: that holds all the prompt can use.
            is_sessions = turn.session is not None and entering.fetch.source.live == turn.session
            name = turn.session if is_sessions and turn.session else hold_as
            context = turn.trace.tokens if turn.trace and name == hold_as else []
            self._keep(entering.fetch, name)
            self._endings.tell_suspended(turn, hold_as, context)
            return True
        if (waiting := self._withdraw_waiting(request)) is not None:
            live = self._keeper.live.take(waiting.suspended_as)
            if live is not None:
                self._keeper.keep(hold_as, live.caches, live.trace, persist=live.persist)
            self._endings.tell_suspended(waiting, hold_as, live.trace.tokens if live else [])
            return True
        return False

    def forget_session(self, name: str) -> None:
        """The session was dropped: its requests keep nothing at their end."""
        for turn in self.turns():
            if turn.session == name:
                turn.session = None

    def step(self) -> bool:
        """Moves the first request on; False if nothing moved."""
        entering = self._entering
        worked = self._fetcher.poll(entering.fetch if entering is not None else None)
        if entering is None and self._waiting:
            worked = self._admit() or worked
            entering = self._entering
        if entering is not None and entering.is_ready and not self._runner.is_prefilling:
            self._entering = None
            self._insert(entering)
            worked = True
        return worked

    def _admit(self) -> bool:
        """Gives the first waiting request its place, if there is room; False if nothing moved."""
        live = self._keeper.live
        source = self._waiting[0]
        if source.as_of != live.changes:
            source = self._waiting[0] = self._choose_source(source.turn)
        turn = source.turn
        if self._is_still_live(turn) or self._awaits_disk(source):
            return False
        left = max(0, turn.max_tokens - turn.completion_tokens)
        wanted = len(turn.ids) + min(left, RESERVE_TOKENS)
        turn.reserved_tokens = min(wanted, self._long.reserve_at_most(turn))
        lane = self._find_lane(source)
        if source.live is not None and live.find(source.live) is None:
            return True  # it made the room: what is left is chosen from anew
        if lane is None:
            return False
        self._waiting.popleft()
        if self._long.is_long(turn):
            self._long.open(turn)
        lane.turns.append(turn)
        self._entering = _Entering(lane, self._fetcher.begin(source))
        return True

    def _choose_source(self, turn: Turn) -> ContextSource:
        """What is too long for memory comes from files alone."""
        live = self._keeper.live
        if self._long.is_long(turn):
            return ContextSource(turn, live.changes)
        return choose_source(turn, live)

    def _held_live(self, turn: Turn) -> list[str]:
        """Names under which a context that is too long for memory begins in it."""
        if not self._long.is_long(turn):
            return []
        names = (turn.suspended_as, turn.session)
        return [name for name in names if name and self._keeper.live.find(name) is not None]

    def _is_still_live(self, turn: Turn) -> bool:
        """True while what a long context begins with is not all in files; has it written."""
        names = self._held_live(turn)
        for name in names:
            self._keeper.release(name)
        if names:
            turn.known, turn.stage = None, "new"  # more is stored then
        return bool(names)

    def _awaits_disk(self, source: ContextSource) -> bool:
        """True while it is not known what is stored and that could matter; asks for it once."""
        turn = source.turn
        if source.is_enough or turn.known is not None:
            return False
        if turn.stage == "new":
            turn.stage = "asked"
            self._send(Lookup(request=turn.start.request, blocks=tuple(turn.chain)))
        return True

    def _withdraw_entering(self, request: RequestKey) -> _Entering | None:
        entering = self._entering
        if entering is None or entering.turn.start.request != request:
            return None
        self._entering = None
        self._fetcher.cancel(entering.fetch)
        entering.lane.take(entering.turn)
        entering.turn.leave_files()
        return entering

    def _withdraw_waiting(self, request: RequestKey) -> Turn | None:
        for source in self._waiting:
            if source.turn.start.request == request:
                self._waiting.remove(source)
                return source.turn
        return None

    def _find_lane(self, source: ContextSource) -> Lane | None:
        turn, reservations = source.turn, self._runner.reservations
        chosen: list[int] = []

        def fits(idle_bytes: int) -> bool:
            if self._long.is_long(turn):
                chosen[:] = self._lane_alone(idle_bytes + self._long.held_bytes(turn))
                return bool(chosen)
            rows = [lane.reservations() for lane in self._runner.lanes]
            for index in self._budget.lane_order(rows, turn.reserved_tokens):
                is_open = self._runner.lanes[index].is_open
                has_place = is_open and len(rows[index]) < self._rows_at_most(index)
                if has_place and reservations.fits(idle_bytes, (index, turn.reserved_tokens)):
                    chosen[:] = [index]
                    return True
            return False

        # Another session's context stays beside its twin; where there is no room for both it goes.
        stays = source.live is not None and not source.is_own
        has_room = self._keeper.make_room(fits, source.live, spare_stays=stays)
        if not has_room and stays and not self._keeper.is_making_room():
            has_room = self._keeper.make_room(fits)
        return self._runner.lanes[chosen[0]] if has_room else None

    def _lane_alone(self, taken_bytes: int) -> list[int]:
        """A lane without rows for a context that is read from files, if there is room for it."""
        lanes = self._runner.lanes
        has_room = self._runner.reservations.fits(taken_bytes)
        if not has_room or not all(lane.is_open for lane in lanes):
            return []
        return [at for at, lane in enumerate(lanes) if not lane.turns and self._rows_at_most(at)]

    def _rows_at_most(self, lane: int) -> int:
        """Weights that are read with every step are read for each lane: there is one lane then."""
        residence = self._seated.load.residence
        if residence is not None and lane:
            return 0
        rows = MAX_ROWS if self._record.batches else 1
        return min(residence.rows, rows) if residence is not None and residence.rows else rows

    def _insert(self, entering: _Entering) -> None:
        turn, fetch = entering.turn, entering.fetch
        caches = fetch.caches
        trace = turn.trace
        if trace is None or caches is None:
            return
        position = trace.position
        if turn.streamed is not None:
            self._long.settle(turn, RowView(caches, 0, position))
        if turn.start.persist and position and not self._keeper.defers_blocks:
            self._keeper.capture_blocks(trace, RowView(caches, 0, position))
        trace.snapshots_at |= fetch.plan.snapshots_at  # on disk: not written again
        self._send(
            Started(
                request=turn.start.request,
                prompt_tokens=len(turn.ids),
                restored_tokens=position,
                computed_tokens=len(turn.ids) - position,
                live_tokens=fetch.live_tokens,
                own_tokens=position if turn.start.resume is not None else min(position, turn.agree),
                restore_s=time.monotonic() - fetch.began_at,
                rendered=turn.is_rendered,
                miss=fetch.miss,
                prompt=pack_tokens(turn.prompt),
                diverged=turn.find_divergence(),
            )
        )
        self._runner.insert(entering.lane, turn, caches)

    def _keep(self, fetch: Fetch, name: str | None) -> None:
        """The KV that a request had taken or restored stays live under `name`."""
        turn = fetch.source.turn
        caches, trace = fetch.caches, turn.trace
        if name is not None and caches is not None and trace is not None and trace.position:
            self._keeper.keep(name, caches, trace, persist=turn.start.persist)

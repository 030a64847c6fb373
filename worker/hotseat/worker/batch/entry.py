"""The way of a request into a batch: rendered, looked up, admitted, restored, inserted in order.

One request at a time is let in and feeds its prompt: what a prompt costs the others stays one
chunk. Runs on the engine's thread. Must not know tokens' text or how a turn ends in a lane.
"""

import time
from collections import deque

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import RequestKey
from hotseat.protocol.link import (
    Finished,
    Known,
    Lookup,
    Quarantined,
    Refused,
    Start,
    Started,
    Suspended,
)
from hotseat.protocol.tokens import pack_tokens, root_id
from hotseat.worker.batch.entering import Entering
from hotseat.worker.batch.lane import MAX_ROWS, Lane
from hotseat.worker.batch.prefix_divergence import leaving_report
from hotseat.worker.batch.runner import Runner
from hotseat.worker.batch.turn import Turn, check_length, emitted, emitted_before, render_prompt
from hotseat.worker.context.capture import Room, RowView
from hotseat.worker.context.keeper import Keeper, Send
from hotseat.worker.context.live import LiveSession
from hotseat.worker.context.restoring import (
    RestorePlan,
    plan_restore,
    rebuild_sequence,
    without_damaged,
)
from hotseat.worker.context.snapshots import stored_positions, wanted_positions
from hotseat.worker.context.steps import StepLog, plan_completion, plan_segments
from hotseat.worker.context.trace import Trace
from hotseat.worker.context.twins import twin_of
from hotseat.worker.model.budget import RESERVE_TOKENS, KvBudget
from hotseat.worker.model.caches import new_caches
from hotseat.worker.model.loading import SeatedModel
from hotseat.worker.store.reader import Restorer, RestoreResult


class BatchEntry:
    """Requests that wait, first come first served."""

    def __init__(
        self,
        seated: SeatedModel,
        budget: KvBudget,
        keeper: Keeper,
        runner: Runner,
        restorer: Restorer,
        send: Send,
    ) -> None:
        self._seated = seated
        self._record = seated.record
        self._budget = budget
        self._keeper = keeper
        self._runner = runner
        self._restorer = restorer
        self._send = send
        self._fit_tokens = budget.fit_tokens(seated.record.context_tokens)
        self._waiting: deque[Turn] = deque()
        self._entering: Entering | None = None
        self._found: tuple[tuple[RequestKey, int], str | None] | None = None
        """What `_find_live` said last, to whom, of which state of the live tier.

        A name: whoever holds the session holds its memory.
        """

    def __len__(self) -> int:
        return len(self._waiting) + (self._entering is not None)

    def turns(self) -> list[Turn]:
        """All requests that are not in a batch yet."""
        return [*self._waiting, *([self._entering.turn] if self._entering else [])]

    def offer(self, start: Start) -> None:
        """Queues a request, or answers Refused."""
        try:
            prompt = render_prompt(self._seated.renderer, start)
            check_length(
                # The last id of a resumed request is the one that needs the room for an answer.
                prompt + emitted_before(start)[:-1],
                context_tokens=self._record.context_tokens,
                fit_tokens=self._fit_tokens,
                vocab_size=self._record.vocab_size,
            )
            turn = Turn(start, prompt, self._seated, self._fit_tokens)
            if self._record.is_recurrent:
                turn.snapshots_at = wanted_positions(self._seated.renderer, start, prompt)
        except HotseatError as error:
            refused = Refused(
                request=start.request, code=error.code, message=error.message, facts=error.facts
            )
            self._send(refused)
            return
        self._waiting.append(turn)
        self._ask(turn)

    def known(self, answer: Known) -> None:
        """Takes the answer to a Lookup; one for a request that is gone is ignored."""
        for turn in self._waiting:
            if turn.start.request == answer.request and turn.stage == "asked":
                turn.known = answer
                turn.stage = "new"

    def cancel(self, request: RequestKey) -> bool:
        """Ends a request that is not in a batch yet; False if it is not here."""
        entering = self._entering
        if entering is not None and entering.turn.start.request == request:
            self._entering = None
            self._restorer.cancel(request)
            entering.lane.take(entering.turn)
            self._keep_entering(entering, entering.turn.session)
            self._finish_unstarted(entering.turn)
            return True
        for turn in self._waiting:
            if turn.start.request == request:
                self._waiting.remove(turn)
                self._finish_unstarted(turn)
                return True
        return False

    def suspend(self, request: RequestKey, hold_as: str) -> bool:
        """Takes a request out that is not in a batch yet; False if it is not here."""
        entering = self._entering
        if entering is not None and entering.turn.start.request == request:
            turn = entering.turn
            self._entering = None
            self._restorer.cancel(request)
            entering.lane.take(turn)
            # KV that is the session's alone goes back to it: that holds all the prompt can use.
            is_sessions = turn.session is not None and entering.live_name == turn.session
            name = turn.session if is_sessions and turn.session else hold_as
            context = turn.trace.tokens if turn.trace and name == hold_as else []
            self._keep_entering(entering, name)
            self._answer_suspended(turn, hold_as, context)
            return True
        for turn in self._waiting:
            if turn.start.request == request:
                self._waiting.remove(turn)
                held = self._keeper.live.take(turn.held_as)
                if held is not None:
                    self._keeper.keep(hold_as, held.caches, held.trace, persist=held.persist)
                self._answer_suspended(turn, hold_as, held.trace.tokens if held else [])
                return True
        return False

    def forget_session(self, name: str) -> None:
        """The session was dropped: its requests keep nothing at their end."""
        for turn in self.turns():
            if turn.session == name:
                turn.session = None

    def step(self) -> bool:
        """Moves the first request on; False if nothing moved."""
        worked = False
        for result in self._restorer.poll():
            worked = self._take_restored(result) or worked
        if self._entering is None and self._waiting:
            worked = self._admit(self._waiting[0]) or worked
        entering = self._entering
        if entering is not None and entering.caches is not None and not self._runner.is_prefilling:
            self._entering = None
            self._insert(entering)
            worked = True
        return worked

    def _ask(self, turn: Turn) -> bool:
        """Sends a Lookup unless memory holds all that could be restored; True if one is out."""
        if turn.known is not None:
            return False
        live = self._find_live(turn)
        if live is not None:
            usable = live.usable_prefix(turn.ids, turn.chain)
            is_whole = usable == live.trace.position and self._is_own(turn, live)
            # Another session's beginning is no reason not to ask for the own tail on disk.
            if is_whole or usable >= len(turn.ids) - 1:
                return False
        if turn.stage == "new":
            turn.stage = "asked"
            self._send(Lookup(request=turn.start.request, blocks=tuple(turn.chain)))
        return True

    def _admit(self, turn: Turn) -> bool:
        """Gives the first waiting request its place, if there is room."""
        if self._ask(turn):
            return False
        left = max(0, turn.max_tokens - turn.completion_tokens)
        wanted = len(turn.ids) + min(left, RESERVE_TOKENS)
        turn.reserved_tokens = min(wanted, self._fit_tokens)
        lane = self._find_lane(turn)
        if lane is None or self._ask(turn):  # what it would have shared may have made room
            return False
        self._waiting.popleft()
        lane.turns.append(turn)
        entering = Entering(turn, lane)
        self._entering = entering
        live = self._find_live(turn)
        if live is not None and not self._is_own(turn, live):
            live = twin_of(live, turn.start.persist)
        elif live is not None:
            entering.live_name = live.name
            self._keeper.live.take(live.name)
        self._keeper.live.take(turn.held_as)
        self._begin_restore(entering, live)
        return True

    def _find_live(self, turn: Turn) -> LiveSession | None:
        """KV kept at suspension, the session's, or another one's: what serves most of the prompt.

        Of equals the request's own is taken. Asked at every step while a request waits for room.
        """
        live = self._keeper.live
        asked = (turn.start.request, live.changes)
        if self._found is not None and self._found[0] == asked:
            return live.find(self._found[1])
        best, most = None, 0
        own = [one for name in (turn.held_as, turn.session) if (one := live.find(name))]
        for one in (*own, *live.sessions()):
            usable = one.usable_prefix(turn.ids, turn.chain)
            if usable > most or (best is None and self._is_own(turn, one)):
                best, most = one, usable
        self._found = (asked, best.name if best is not None else None)
        return best

    @staticmethod
    def _is_own(turn: Turn, live: LiveSession) -> bool:
        """False for a context that another session goes on with."""
        return live.name in (turn.held_as, turn.session)

    def _find_lane(self, turn: Turn) -> Lane | None:
        chosen: list[int] = []

        def fits(idle_bytes: int) -> bool:
            rows = [lane.reservations() for lane in self._runner.lanes]
            for index in self._budget.lane_order(rows, turn.reserved_tokens):
                has_place = len(rows[index]) < (MAX_ROWS if self._record.batches else 1)
                if has_place and self._runner.fits(idle_bytes, (index, turn.reserved_tokens)):
                    chosen[:] = [index]
                    return True
            return False

        live = self._find_live(turn)
        spare = live.name if live is not None else None
        # Another session's context stays beside its twin; where there is no room for both it goes.
        stays = live is not None and not self._is_own(turn, live)
        has_room = self._keeper.make_room(fits, spare, spare_stays=stays)
        if not has_room and stays and not self._keeper.is_making_room():
            has_room = self._keeper.make_room(fits)
        return self._runner.lanes[chosen[0]] if has_room else None

    def _begin_restore(self, entering: Entering, live: LiveSession | None) -> None:
        turn = entering.turn
        record = self._record
        plan = RestorePlan([], None, 0)
        if turn.known is not None:
            plan = plan_restore(record, turn.ids, turn.chain, turn.known)
        usable = live.usable_prefix(turn.ids, turn.chain) if live is not None else 0
        decode = self._seated.tokenizer.decode
        left = leaving_report(turn, root_id(record.tag), live, decode)
        if left is not None:
            self._send(left)
        if live is not None and usable and usable >= plan.position:
            live.trim(usable)
            entering.live_tokens = usable
            turn.trace = live.trace
            entering.caches = live.caches
        elif plan.position:
            entering.plan = plan
            turn.stage = "reading"
            self._restorer.begin(turn.start.request, plan.blocks, plan.tail)
            entering.room = Room(record, plan.position).begin()
        else:
            self._begin_empty(entering)

    def _begin_empty(self, entering: Entering) -> None:
        is_recurrent = self._record.is_recurrent
        log = StepLog(0, since=0 if is_recurrent else None)
        entering.turn.trace = Trace(self._record.tag, [], log, is_recurrent=is_recurrent)
        entering.caches = new_caches(self._seated.model)

    def _take_restored(self, result: RestoreResult) -> bool:
        for bad in result.bad_files:
            self._send(Quarantined(file=bad.file, reason=bad.reason, block=bad.block))
        entering = self._entering
        if entering is None or entering.turn.start.request != result.request:
            return False
        if entering.plan is None or entering.caches is not None:
            return False
        turn = entering.turn
        hint = turn.hint if turn.hint and turn.hint.boundary <= turn.agree else None
        entering.miss = entering.miss or result.miss
        try:
            room, entering.room = entering.room, None
            restored = rebuild_sequence(self._record, turn.ids, entering.plan, result, hint, room)
        except Exception as error:  # noqa: BLE001 - what cannot be restored is computed
            restored = None
            entering.miss = entering.miss or f"restore failed: {error}"
        if restored is None:
            self._begin_again(entering, entering.plan, result)
        else:
            turn.trace = restored.trace
            entering.caches = restored.caches
        return True

    def _begin_again(self, entering: Entering, failed: RestorePlan, result: RestoreResult) -> None:
        """Tries the snapshot before the one that could not be used, else starts from nothing."""
        turn = entering.turn
        known = turn.known and without_damaged(turn.known, failed, result)
        if known is None or not self._record.is_recurrent:
            self._begin_empty(entering)
            return
        turn.known = known
        entering.plan = plan_restore(self._record, turn.ids, turn.chain, known)
        if not entering.plan.position:
            self._begin_empty(entering)
            return
        self._restorer.begin(turn.start.request, entering.plan.blocks, entering.plan.tail)

    def _note_stored(self, turn: Turn, trace: Trace) -> None:
        """Snapshots that are on disk are not written again."""
        if turn.known is not None and trace.is_recurrent:
            root = root_id(self._record.tag)
            trace.snapshots_at |= set(stored_positions(turn.ids, root, turn.chain, turn.known))

    def _insert(self, entering: Entering) -> None:
        turn, caches = entering.turn, entering.caches
        trace = turn.trace
        if trace is None or caches is None:
            return
        position = trace.position
        if turn.start.persist and position:
            self._keeper.capture_blocks(trace, RowView(caches, 0, position))
        self._note_stored(turn, trace)
        prompt = len(turn.prompt)
        turn.segments = [
            *plan_segments(
                position, prompt, turn.hint, turn.agree, turn.fed_first, turn.snapshots_at
            ),
            *plan_completion(position, prompt, len(turn.ids)),
        ]
        self._send(
            Started(
                request=turn.start.request,
                prompt_tokens=len(turn.ids),
                restored_tokens=position,
                computed_tokens=len(turn.ids) - position,
                live_tokens=entering.live_tokens,
                own_tokens=position if turn.start.resume is not None else min(position, turn.agree),
                restore_s=time.monotonic() - entering.began_at,
                rendered=turn.is_rendered,
                miss=entering.miss,
                prompt=pack_tokens(turn.prompt),
                diverged=turn.find_divergence(),
            )
        )
        self._runner.insert(entering.lane, turn, caches)

    def _keep_entering(self, entering: Entering, name: str | None) -> None:
        """The KV that a request had taken or restored stays live under `name`."""
        turn = entering.turn
        caches, trace = entering.caches, turn.trace
        if name is not None and caches is not None and trace is not None and trace.position:
            self._keeper.keep(name, caches, trace, persist=turn.start.persist)

    def _answer_suspended(self, turn: Turn, hold_as: str, context: list[int]) -> None:
        self._keeper.after_written(
            Suspended(
                request=turn.start.request,
                hold_as=hold_as,
                context=pack_tokens(context),
                hint=turn.start.hint,
                completion_tokens=turn.completion_tokens,
            )
        )

    def _finish_unstarted(self, turn: Turn) -> None:
        rest = turn.text.finish()
        if rest:
            self._send(emitted(turn, rest))
        self._keeper.after_written(
            Finished(
                request=turn.start.request,
                finish_reason="cancelled",
                text=turn.text.text,
                completion_tokens=turn.completion_tokens,
                context=pack_tokens(turn.ids),
                hint=turn.start.hint,
                closed=False,
                ttft_s=0.0,
                decode_s=0.0,
            )
        )

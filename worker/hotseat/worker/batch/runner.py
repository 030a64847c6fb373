"""The requests that are in a batch: steps and tokens. Runs on the engine's thread.

Must not know how a request got its caches (`entry`) or what becomes of them (`endings`).
"""

from collections.abc import Sequence
from typing import Any, Final

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link_reports import Prefilled
from hotseat.protocol.replies import FinishReason, TokenLogprob
from hotseat.worker.batch.endings import Endings
from hotseat.worker.batch.lane import Drawn, Fed, Lane, LaneBrokenError
from hotseat.worker.batch.long_contexts import LongContexts, NotWrittenError
from hotseat.worker.batch.reservations import Reservations
from hotseat.worker.batch.sampling import top_logprobs, with_texts
from hotseat.worker.batch.turn import Turn, emitted
from hotseat.worker.context.capture import RowView
from hotseat.worker.context.keeper import Keeper, Send
from hotseat.worker.context.trace import Trace
from hotseat.worker.dying import pass_on_loss, tells_of_memory
from hotseat.worker.model.budget import KvBudget
from hotseat.worker.model.caches import ring_starts
from hotseat.worker.model.loading import SeatedModel
from hotseat.worker.store.kept_blocks import BlockLostError

MAX_LANES: Final = 3
"""Rows of very unlike lengths do not share a batch; more lanes would only take turns."""
MAX_RAN_OUT: Final = 2
"""Steps in a row that memory does not suffice for, before the worker ends."""
PASS_TOKENS: Final = 64
"""What the shortest chunk counts for when chunks share a step."""
SHORT_TOKENS: Final = 2 * BLOCK_TOKENS
"""Of short prompts that begin together; of more each would wait for the others in vain."""


class Runner:
    """All lanes of a seating."""

    def __init__(
        self,
        seated: SeatedModel,
        budget: KvBudget,
        keeper: Keeper,
        endings: Endings,
        long: LongContexts,
        send: Send,
    ) -> None:
        self._fed_at_most = seated.record.prefill_chunk
        self.chunk = max(self._fed_at_most, PASS_TOKENS)
        """What the longest chunk counts for when chunks share a step."""
        self.lanes = [Lane(seated.model, self._fed_at_most) for _ in range(MAX_LANES)]
        self.reservations = Reservations(self.lanes, budget, keeper, long, self._lose)
        self._keeper = keeper
        self._endings = endings
        self._long = long
        self._send = send
        self._has_full = False
        """True if some turn may lack only one token."""
        self._ran_out = 0
        """Steps in a row, without a token in between, for which memory did not suffice."""

    @property
    def is_prefilling(self) -> bool:
        """True while some request feeds its prompt; the next one waits for that."""
        return any(lane.next_feed_tokens for lane in self.lanes if lane.turns)

    @property
    def is_decoding(self) -> bool:
        """True while some request waits for its next token."""
        return any(lane.is_decoding for lane in self.lanes if lane.turns)

    @property
    def could_gather(self) -> bool:
        """True if rows are ready, none decodes yet, and the prompts fed next are short."""
        if self.is_decoding or not any(lane.has_ready for lane in self.lanes):
            return False
        tokens = [lane.next_feed_tokens for lane in self.lanes]
        return 0 < max(tokens) < min(self._fed_at_most, BLOCK_TOKENS)

    @property
    def prompt_room(self) -> int:
        """Prompt tokens that are fed in one step: a chunk's worth.

        While nobody decodes, short prompts up to twice that begin together: each that began alone
        would take a pass of the model for itself.
        """
        if self.is_decoding:
            return self.chunk
        return max(self.chunk, min(2 * self.chunk, SHORT_TOKENS))

    @property
    def is_busy(self) -> bool:
        """True while any request has a place in a lane."""
        return any(lane.turns for lane in self.lanes)

    def turns(self) -> list[Turn]:
        """All requests that have a place in a lane."""
        return [turn for lane in self.lanes for turn in lane.turns]

    def rows(self) -> list[list[int]]:
        """Tokens in KV of the rows of each lane that are all in memory."""
        return [
            [turn.fed_tokens for turn in lane.turns if turn.streamed is None] for lane in self.lanes
        ]

    def insert(self, lane: Lane, turn: Turn, caches: list[Any]) -> None:
        """Starts the prefill of a turn that has its place in `lane`; a failure breaks only it."""
        turn.stage = "prefilling"
        try:
            lane.insert(turn, caches)
        except Exception as error:  # noqa: BLE001 - one bad row must not take the engine down
            pass_on_loss(error)
            lane.take(turn)
            self._endings.give_up(turn, str(error) or type(error).__name__)
            return
        if turn.trace is not None:
            self._keeper.watch(turn.trace)
        self._end_replayed(lane, turn)

    def decode(self) -> bool:
        """One decode step of every lane; False if none has rows."""
        worked = False
        begun_before = self._keeper.captures_underway
        has_full, self._has_full = self._has_full, False
        for lane in self.lanes:
            if not lane.turns:
                continue
            try:
                if has_full:
                    worked = self._end_full(lane) or worked
                drawn, fed = lane.decode()
                for token in drawn:
                    self._take_token(lane, token)
                for one in fed:
                    self._take_chunk(lane, one)
            except LaneBrokenError as error:
                self._lose(error)
                worked = True
            else:
                worked = worked or bool(drawn or fed)
        if worked and begun_before:
            # Of the step before, while this one is computed.
            self._await_fed()
            self._keeper.finish_captures(begun_before)
        return worked

    def feed(self, room: int) -> int:
        """Feeds the next chunk of the prompt that is fed, if `room` allows; what it took of it.

        A pass of the model costs something however short the chunk is.
        """
        for lane in self.lanes:
            tokens = lane.next_feed_tokens if lane.turns else 0
            if not tokens:
                continue
            cost = max(tokens, PASS_TOKENS)
            if cost > room:
                return 0
            try:
                self._await_fed(but=lane)
                fed = lane.feed()
            except LaneBrokenError as error:
                self._lose(error)
            else:
                # Of the chunk before, while this one is computed.
                self._keeper.finish_captures()
                self._take_chunk(lane, fed)
            return cost
        return 0

    def _await_fed(self, *, but: Lane | None = None) -> None:
        """Waits for the chunk under way: if it failed, its row is lost and no block of it is read.

        Of all prompts one chunk is computed at a time.
        """
        for lane in self.lanes:
            try:
                if lane is not but:
                    lane.await_fed()
            except LaneBrokenError as error:
                self._lose(error)

    def cancel(self, request: RequestKey) -> None:
        """Ends a request now: between two steps is a token boundary. Unknown ones are ignored.

        One whose last reported token is not in KV yet ends with the step that puts it there.
        """
        found = self._find(request)
        if found is None or found[1].is_over:
            return
        if found[1].is_ahead:
            found[1].ended_by = "cancelled"
        else:
            self._endings.finish(*found, "cancelled")

    def suspend(self, request: RequestKey, hold_as: str) -> None:
        """A request leaves its batch now, its KV stays live under `hold_as`.

        The drawn token is reported first. A request that ends with it finishes as if nothing had
        been asked: now if the answer is full, else with the step that puts the token into KV.
        """
        found = self._find(request)
        if found is None or found[1].is_over:
            return
        lane, turn = found
        try:
            stays = turn.stage == "decoding" and not turn.is_ahead and self._ends(lane, turn)
        except LaneBrokenError as error:
            self._lose(error)
        else:
            if not stays:
                self._endings.suspend(lane, turn, hold_as)

    def close(self) -> None:
        """Gives all KV of running requests back."""
        for lane in self.lanes:
            lane.close()

    def _ends(self, lane: Lane, turn: Turn) -> bool:
        """Reports the token that is drawn and not in KV yet; True if the turn ends with it.

        An end-of-turn token and the end of a stop string go into KV with the next step, the last
        token of a full answer does not: it is the first that the next prompt computes. What draws
        after it would be drawn for nobody. Raises LaneBrokenError.
        """
        pending = lane.pending(turn)
        if turn.form.failure:
            self._endings.refuse(lane, turn)
            return True
        if pending.token in turn.end_ids:
            return True
        turn.ended_by = self._report(pending)
        if turn.is_full and turn.ended_by is not None:
            self._endings.finish(lane, turn, turn.ended_by, unfed=(pending.token,))
        return turn.ended_by is not None

    def _end_full(self, lane: Lane) -> bool:
        """Ends the turns whose last token by number is drawn; False if there are none."""
        ended = [turn for turn in lane.turns if turn.stage == "decoding" and turn.lacks_one]
        for turn in ended:
            if turn.ended_by is None and not turn.is_ahead:
                self._ends(lane, turn)
        return bool(ended)

    def _end_replayed(self, lane: Lane, turn: Turn) -> None:
        """Ends a turn that was full before it was resumed once it stands where it stood then."""
        if turn.ended_by is not None and turn.is_full and lane.is_ready(turn):
            self._endings.finish(lane, turn, turn.ended_by)

    def _take_chunk(self, lane: Lane, fed: Fed) -> None:
        turn = fed.turn
        self._note(lane, turn, fed.tokens)
        if turn not in lane.turns:
            return
        if fed.is_last:
            turn.stage = "decoding"
        self._send(Prefilled(request=turn.start.request, tokens_done=turn.fed_tokens))
        if fed.is_last and turn.ended_by is not None:
            self._endings.finish(lane, turn, turn.ended_by)
        elif fed.is_last:
            # The next decode step would hand it out, a step later.
            is_last_token = self._ends(lane, turn)
            turn.is_ahead = not is_last_token or turn.ended_by is not None
        else:
            self._end_replayed(lane, turn)

    def _take_token(self, lane: Lane, drawn: Drawn) -> None:
        turn = drawn.turn
        self._note(lane, turn, [drawn.token])
        if turn not in lane.turns:
            return
        if turn.form.failure:
            self._endings.refuse(lane, turn)
            return
        reason = turn.ended_by
        if reason is None and not turn.is_ahead:
            reason = self._report(drawn)
        turn.is_ahead = False
        if reason is not None:
            self._endings.finish(lane, turn, reason, is_closed=drawn.token in turn.end_ids)
        elif turn.fed_tokens >= turn.reserved_tokens and not self.reservations.grow(lane, turn):
            self._endings.finish(lane, turn, "length", limit="kv_budget")
        elif turn.lacks_one:
            self._has_full = True

    def _lose(self, error: LaneBrokenError) -> None:
        """Breaks the rows that were lost with a step.

        Raises MemoryError when memory fails again: what fills it is not in those rows, and all
        others go on with a worker that begins empty.
        """
        self._endings.lose(error)
        self._ran_out = self._ran_out + 1 if tells_of_memory(str(error)) else 0
        if self._ran_out >= MAX_RAN_OUT:
            raise MemoryError(str(error))

    def _report(self, drawn: Drawn) -> FinishReason | None:
        """Sends a token and its text; why the turn ends, if it does."""
        self._ran_out = 0
        turn, token = drawn.turn, drawn.token
        parts, reason = turn.accept(token)
        if token not in turn.end_ids:
            count = turn.start.logprobs
            logprobs: tuple[TokenLogprob, ...] = ()
            if count:
                told = top_logprobs(token, drawn.logprobs, count)
                logprobs = (with_texts(told, turn.kit.grammars.bytes_of),)
            self._send(emitted(turn, parts, (token,), logprobs))
        return reason

    def _find(self, request: RequestKey) -> tuple[Lane, Turn] | None:
        for lane in self.lanes:
            for turn in lane.turns:
                if turn.start.request == request and turn.stage in ("prefilling", "decoding"):
                    return lane, turn
        return None

    def _note(self, lane: Lane, turn: Turn, tokens: Sequence[int]) -> None:
        trace = turn.trace
        if trace is None:
            return
        has_block = trace.feed(list(tokens))
        has_snapshot = trace.is_recurrent and turn.wants_snapshot(trace.position)
        if not (has_block or has_snapshot):
            return
        view = lane.view(turn)
        with lane.stream():
            if has_block:
                trace.log.mark_rings(ring_starts(view.caches, view.tokens))
                if turn.streamed is not None:
                    self._write(lane, turn, trace, view)
                elif turn.start.persist:
                    self._keeper.begin_blocks(trace, view)
            if has_snapshot:
                # It is read at once, and what failed must be found by its own row.
                self._await_fed()
            if has_snapshot and turn in lane.turns:
                self._keeper.snapshot(trace, view, persist=turn.start.persist)

    def _write(self, lane: Lane, turn: Turn, trace: Trace, view: RowView) -> None:
        """What is read from files leaves memory with every block; a failure ends the row."""
        self._await_fed()
        if turn not in lane.turns:
            return
        try:
            self._long.write(turn, trace, view)
        except NotWrittenError as error:
            lane.take(turn)
            self._endings.give_up(turn, str(error), error.code)
        except BlockLostError as error:
            lane.take(turn)
            self._endings.lose_context(turn, error)

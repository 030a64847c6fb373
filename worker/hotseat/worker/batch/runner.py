"""The requests that are in a batch: steps, tokens, growth, ends. Runs on the engine's thread.

Must not know how a request got its caches (`entry`) or what becomes of them (`keeping`).
"""

import time
from collections.abc import Sequence
from typing import Any, Final

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link import Broken, Finished, Prefilled, Suspended
from hotseat.protocol.replies import FinishReason, LengthLimit
from hotseat.protocol.tokens import pack_tokens
from hotseat.worker.batch.form import refuse_failed
from hotseat.worker.batch.lane import Drawn, Fed, Lane, LaneBrokenError
from hotseat.worker.batch.sampling import top_logprobs
from hotseat.worker.batch.turn import Turn, emitted
from hotseat.worker.context.keeper import Keeper, Send
from hotseat.worker.context.steps import encode_hint
from hotseat.worker.dying import tells_of_memory
from hotseat.worker.model.budget import KvBudget
from hotseat.worker.model.caches import ring_starts
from hotseat.worker.model.loading import SeatedModel

MAX_LANES: Final = 3
"""Rows of very unlike lengths do not share a batch; more lanes would only take turns."""
PASS_TOKENS: Final = 64
"""What the shortest chunk counts for when chunks share a step."""


class Runner:
    """All lanes of a seating."""

    def __init__(self, seated: SeatedModel, budget: KvBudget, keeper: Keeper, send: Send) -> None:
        chunk = seated.record.prefill_chunk
        self._chunk = chunk
        self.lanes = [Lane(seated.model, chunk) for _ in range(MAX_LANES)]
        self._budget = budget
        self._keeper = keeper
        self._send = send
        self._has_full = False
        """True if some turn may lack only one token."""

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
        return 0 < max(tokens) < self._chunk

    @property
    def is_busy(self) -> bool:
        """True while any request has a place in a lane."""
        return any(lane.turns for lane in self.lanes)

    def turns(self) -> list[Turn]:
        """All requests that have a place in a lane."""
        return [turn for lane in self.lanes for turn in lane.turns]

    def rows(self) -> list[list[int]]:
        """Tokens in KV of the rows of each lane."""
        return [[turn.fed_tokens for turn in lane.turns] for lane in self.lanes]

    def fits(self, idle_bytes: int, extra: tuple[int, int] | None = None) -> bool:
        """True if all reservations, and `extra` (lane, tokens), stay within the budget."""
        rows = [lane.reservations() for lane in self.lanes]
        if extra is not None:
            rows[extra[0]].append(extra[1])
        return self._budget.need_bytes(rows, idle_bytes) <= self._budget.limit_bytes

    def insert(self, lane: Lane, turn: Turn, caches: list[Any]) -> None:
        """Starts the prefill of a turn that has its place in `lane`; a failure breaks only it."""
        turn.stage = "prefilling"
        try:
            lane.insert(turn, caches)
        except Exception as error:  # noqa: BLE001 - one bad row must not take the engine down
            lane.take(turn)
            self._break(turn, str(error) or type(error).__name__)
            return
        if turn.trace is not None:
            self._keeper.watch(turn.trace)
        self._end_replayed(lane, turn)

    def decode(self) -> bool:
        """One decode step of every lane; False if none has rows."""
        worked = False
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
                fed = lane.feed()
            except LaneBrokenError as error:
                self._lose(error)
            else:
                self._take_chunk(lane, fed)
            return cost
        return 0

    def cancel(self, request: RequestKey) -> None:
        """Ends a request now: between two steps is a token boundary. Unknown ones are ignored.

        One whose last reported token is not in KV yet ends with the step that puts it there.
        """
        found = self._find(request)
        if found is None or found[1].ended_by is not None:
            return
        if found[1].is_ahead:
            found[1].ended_by = "cancelled"
        else:
            self._finish(*found, "cancelled")

    def suspend(self, request: RequestKey, hold_as: str) -> None:
        """A request leaves its batch now, its KV stays live under `hold_as`.

        The drawn token is reported first. A request that ends with it finishes as if nothing had
        been asked: now if the answer is full, else with the step that puts the token into KV.
        """
        found = self._find(request)
        if found is None or found[1].ended_by is not None:
            return
        lane, turn = found
        try:
            stays = turn.stage == "decoding" and not turn.is_ahead and self._ends(lane, turn)
        except LaneBrokenError as error:
            self._lose(error)
        else:
            if not stays:
                self._leave(lane, turn, hold_as)

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
            self._refuse(lane, turn)
            return True
        if pending.token in turn.end_ids:
            return True
        turn.ended_by = self._report(pending)
        if turn.is_full and turn.ended_by is not None:
            self._end(lane, turn, turn.ended_by, unfed=(pending.token,))
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
            self._end(lane, turn, turn.ended_by)

    def _take_chunk(self, lane: Lane, fed: Fed) -> None:
        turn = fed.turn
        self._note(lane, turn, fed.tokens)
        if fed.is_last:
            turn.stage = "decoding"
        self._send(
            Prefilled(
                request=turn.start.request,
                tokens_done=turn.fed_tokens,
                tokens_total=len(turn.ids),
            )
        )
        if fed.is_last and turn.ended_by is not None:
            self._end(lane, turn, turn.ended_by)
        elif fed.is_last:
            # The next decode step would hand it out, a step later.
            is_last_token = self._ends(lane, turn)
            turn.is_ahead = not is_last_token or turn.ended_by is not None
        else:
            self._end_replayed(lane, turn)

    def _take_token(self, lane: Lane, drawn: Drawn) -> None:
        turn = drawn.turn
        self._note(lane, turn, [drawn.token])
        if turn.form.failure:
            self._refuse(lane, turn)
            return
        reason = turn.ended_by
        if reason is None and not turn.is_ahead:
            reason = self._report(drawn)
        turn.is_ahead = False
        if reason is not None:
            self._end(lane, turn, reason, is_closed=drawn.token in turn.end_ids)
        elif turn.fed_tokens >= turn.reserved_tokens and not self._grow(turn):
            self._finish(lane, turn, "length", limit="kv_budget")
        elif turn.lacks_one:
            self._has_full = True

    def _report(self, drawn: Drawn) -> FinishReason | None:
        """Sends a token and its text; why the turn ends, if it does."""
        turn, token = drawn.turn, drawn.token
        parts, reason = turn.accept(token)
        if token not in turn.end_ids:
            count = turn.start.logprobs
            logprobs = (top_logprobs(token, drawn.logprobs, count),) if count else ()
            self._send(emitted(turn, parts, (token,), logprobs))
        return reason

    def _end(
        self,
        lane: Lane,
        turn: Turn,
        reason: FinishReason,
        *,
        is_closed: bool = False,
        unfed: Sequence[int] = (),
    ) -> None:
        limit = turn.limit if reason == "length" else None
        self._finish(lane, turn, reason, limit=limit, is_closed=is_closed, unfed=unfed)

    def _find(self, request: RequestKey) -> tuple[Lane, Turn] | None:
        for lane in self.lanes:
            for turn in lane.turns:
                if turn.start.request == request and turn.stage in ("prefilling", "decoding"):
                    return lane, turn
        return None

    def _leave(self, lane: Lane, turn: Turn, hold_as: str) -> None:
        trace = turn.trace
        caches = lane.take(turn)
        hint, context = turn.start.hint, []
        if trace is not None:
            self._keeper.unwatch(trace)
            if caches:
                hint = encode_hint(trace.log.hint(ring_starts(caches, trace.position)))
                context = trace.tokens
                self._keeper.keep(hold_as, caches, trace, persist=turn.start.persist)
        self._keeper.after_written(
            Suspended(
                request=turn.start.request,
                hold_as=hold_as,
                context=pack_tokens(context),
                hint=hint,
                completion_tokens=turn.completion_tokens,
            )
        )

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
                if turn.start.persist:
                    self._keeper.capture_blocks(trace, view)
            if has_snapshot:
                self._keeper.snapshot(trace, view, persist=turn.start.persist)

    def _grow(self, turn: Turn) -> bool:
        """Reserves one more block; False if the budget has none, idle sessions given up."""
        turn.reserved_tokens += BLOCK_TOKENS
        fits = self._keeper.make_room(self.fits)
        if fits or self._keeper.is_making_room():
            return True
        turn.reserved_tokens -= BLOCK_TOKENS
        return False

    def _finish(
        self,
        lane: Lane,
        turn: Turn,
        reason: FinishReason,
        *,
        limit: LengthLimit | None = None,
        is_closed: bool = False,
        unfed: Sequence[int] = (),
    ) -> None:
        trace = turn.trace
        was_decoding = turn.stage == "decoding"
        caches = lane.take(turn)
        rest = turn.text.finish()
        if rest:
            self._send(emitted(turn, rest))
        if turn.text.is_stopped and reason == "length":
            reason, limit = "stop", None
        if reason == "stop" and turn.text.calls:
            reason = "tool_calls"
        hint = turn.start.hint
        # A prompt that was cut short stays the context as a whole: half a message would spoil
        # every later turn, and the ids without KV are simply computed again.
        context = turn.ids
        if trace is not None:
            self._keeper.unwatch(trace)
            if was_decoding:
                context = [*trace.tokens, *unfed]
            if caches:
                hint = encode_hint(trace.log.hint(ring_starts(caches, trace.position)))
                if turn.session is not None:
                    self._keeper.keep(turn.session, caches, trace, persist=turn.start.persist)
        now = time.monotonic()
        first_token_at = turn.first_token_at
        finished = Finished(
            request=turn.start.request,
            finish_reason=reason,
            limit=limit,
            text=turn.text.text,
            completion_tokens=turn.completion_tokens,
            context=pack_tokens(context),
            hint=hint,
            closed=is_closed,
            ttft_s=(first_token_at or now) - turn.received_at,
            decode_s=now - first_token_at if first_token_at is not None else 0.0,
        )
        self._keeper.after_written(finished)

    def _refuse(self, lane: Lane, turn: Turn) -> None:
        """The form that was asked for cannot be kept to the end: an answer would be a lie."""
        lane.take(turn)
        if turn.trace is not None:
            self._keeper.unwatch(turn.trace)
        error = refuse_failed(turn.form.failure)
        request = turn.start.request
        self._send(
            Broken(request=request, code=error.code, message=error.message, facts=error.facts)
        )

    def _lose(self, error: LaneBrokenError) -> None:
        for turn in error.turns:
            self._break(turn, str(error))

    def _break(self, turn: Turn, reason: str) -> None:
        if turn.trace is not None:
            self._keeper.unwatch(turn.trace)
        self._send(
            Broken(
                request=turn.start.request,
                code="memory_pressure" if tells_of_memory(reason) else "internal",
                message=f"the request failed in the model: {reason}",
                facts={"tokens": turn.fed_tokens},
            )
        )

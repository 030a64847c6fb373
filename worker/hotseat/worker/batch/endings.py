"""How a request leaves the batch, or the line before it: finished, suspended, refused, broken.

What is kept of it and what is told. Runs on the engine's thread. Must not know why it ends, or how
tokens are drawn.
"""

import time
from collections.abc import Sequence

from hotseat.protocol.link_reports import Broken, ContextLost, Finished, Quarantined, Suspended
from hotseat.protocol.replies import FinishReason, LengthLimit
from hotseat.protocol.tokens import pack_tokens
from hotseat.worker.batch.form import refuse_failed
from hotseat.worker.batch.lane import Lane, LaneBrokenError
from hotseat.worker.batch.turn import Turn, emitted
from hotseat.worker.context.keeper import Keeper, Send
from hotseat.worker.context.steps import encode_hint
from hotseat.worker.dying import tells_of_memory
from hotseat.worker.model.caches import ring_starts
from hotseat.worker.store.kept_blocks import BlockLostError


class Endings:
    """Ends of requests of one seating; what must be durable before is told after it is."""

    def __init__(self, keeper: Keeper, send: Send) -> None:
        self._keeper = keeper
        self._send = send

    def finish(
        self,
        lane: Lane,
        turn: Turn,
        reason: FinishReason,
        *,
        limit: LengthLimit | None = None,
        is_closed: bool = False,
        unfed: Sequence[int] = (),
    ) -> None:
        """Ends a row; its KV stays live for its session. `unfed` was reported, but has no KV.

        A `limit` stands for another one than the turn's own.
        """
        was_decoding = turn.stage == "decoding"
        # A prompt that was cut short stays the context as a whole: half a message would spoil
        # every later turn, and the ids without KV are simply computed again.
        context = turn.ids
        if was_decoding and turn.trace is not None:
            context = [*turn.trace.tokens, *unfed]
        self._say_rest(turn)
        hint = self._take_out(lane, turn, keep_as=turn.session)
        if turn.text.is_stopped and reason == "length":
            reason = "stop"
        if reason == "stop" and turn.text.calls:
            reason = "tool_calls"
        began_at, now = turn.first_token_at, time.monotonic()
        self._keeper.after_written(
            Finished(
                request=turn.start.request,
                finish_reason=reason,
                limit=(limit or turn.limit) if reason == "length" else None,
                text=turn.text.text,
                completion_tokens=turn.completion_tokens,
                reasoning_tokens=turn.text.reasoning_tokens,
                stop_string=turn.text.stopped_by,
                context=pack_tokens(context),
                hint=turn.start.hint if hint is None else hint,
                closed=is_closed,
                ttft_s=(began_at or now) - turn.received_at,
                decode_s=now - began_at if began_at is not None else 0.0,
            )
        )

    def finish_unstarted(self, turn: Turn) -> None:
        """Ends one that was cancelled before it came into a batch."""
        self._say_rest(turn)
        self._keeper.after_written(
            Finished(
                request=turn.start.request,
                finish_reason="cancelled",
                text=turn.text.text,
                completion_tokens=turn.completion_tokens,
                reasoning_tokens=turn.text.reasoning_tokens,
                context=pack_tokens(turn.ids),
                hint=turn.start.hint,
                closed=False,
                ttft_s=0.0,
                decode_s=0.0,
            )
        )

    def suspend(self, lane: Lane, turn: Turn, hold_as: str) -> None:
        """A row leaves in the middle; its KV stays live under `hold_as`."""
        hint = self._take_out(lane, turn, keep_as=hold_as)
        context = turn.trace.tokens if turn.trace is not None and hint is not None else []
        self.tell_suspended(turn, hold_as, context, hint)

    def tell_suspended(
        self, turn: Turn, hold_as: str, context: Sequence[int], hint: bytes | None = None
    ) -> None:
        """One left; `context` is live under `hold_as`. Without a `hint` its start's counts."""
        self._keeper.after_written(
            Suspended(
                request=turn.start.request,
                hold_as=hold_as,
                context=pack_tokens(context),
                hint=turn.start.hint if hint is None else hint,
                completion_tokens=turn.completion_tokens,
            )
        )

    def refuse(self, lane: Lane, turn: Turn) -> None:
        """The form that was asked for cannot be kept to the end: an answer would be a lie."""
        lane.take(turn)
        self._unwatch(turn)
        error = refuse_failed(turn.form)
        self._send(
            Broken(
                request=turn.start.request,
                code=error.code,
                message=error.message,
                facts=error.facts,
            )
        )

    def lose(self, error: LaneBrokenError) -> None:
        """Breaks the rows that were lost with a step."""
        for turn in error.turns:
            if isinstance(error.__cause__, BlockLostError):
                self.lose_context(turn, error.__cause__)
            else:
                self.give_up(turn, str(error))

    def lose_context(self, turn: Turn, lost: BlockLostError) -> None:
        """One that has no place in a lane any more can begin again: the block is not offered."""
        self._drop(turn)
        if lost.is_lasting:
            self._send(Quarantined(file=lost.file, reason=lost.reason, block=lost.block))
        self._send(ContextLost(request=turn.start.request, reason=str(lost)))

    def give_up(self, turn: Turn, reason: str, code: str | None = None) -> None:
        """Ends one that has no place in a lane any more, or never got it."""
        self._drop(turn)
        self._send(
            Broken(
                request=turn.start.request,
                code=code or ("memory_pressure" if tells_of_memory(reason) else "internal"),
                message=reason if code else f"the request failed in the model: {reason}",
                facts={"tokens": turn.fed_tokens},
            )
        )

    def _say_rest(self, turn: Turn) -> None:
        rest = turn.text.finish()
        if rest:
            self._send(emitted(turn, rest))

    def _take_out(self, lane: Lane, turn: Turn, *, keep_as: str | None) -> bytes | None:
        """Ends the row, its KV stays live under `keep_as`; its hint, None if it has no KV."""
        caches, trace = lane.take(turn), turn.trace
        self._unwatch(turn)
        if trace is None or not caches:
            return None
        hint = encode_hint(trace.log.hint(ring_starts(caches, trace.position)))
        if keep_as is not None:
            self._keeper.keep(keep_as, caches, trace, persist=turn.start.persist)
        return hint

    def _drop(self, turn: Turn) -> None:
        self._unwatch(turn)
        if turn.trace is not None:
            self._keeper.drop_captures(turn.trace)

    def _unwatch(self, turn: Turn) -> None:
        turn.leave_files()
        if turn.trace is not None:
            self._keeper.unwatch(turn.trace)

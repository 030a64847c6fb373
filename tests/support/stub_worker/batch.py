"""Requests of the stub from start to end: what of a prompt is kept, prefill, tokens, endings.

One step emits one token for every running request, after prefill in chunks of 256. KV files are
small JSON files under the names the real worker uses (`files`). Must not know how a model is loaded
or let go of: a batch is made for one loaded model.
"""

import time
from collections.abc import Callable
from typing import Any, assert_never

from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link_orders import CancelWork, Drop, Known, Shrink, Start, Suspend, TailRef
from hotseat.protocol.link_reports import (
    Broken,
    Emitted,
    Finished,
    FromWorker,
    Lookup,
    Prefilled,
    Quarantined,
    Refused,
    Started,
    Suspended,
    WriteFailed,
)
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.replies import FinishReason, LengthLimit
from hotseat.protocol.tokens import block_chain, pack_tokens, root_id, unpack_tokens
from tests.support.stub_worker.faults import LOOK_S, Trigger
from tests.support.stub_worker.files import StubFiles, block_name
from tests.support.stub_worker.text import END_OF_TURN, decode_token
from tests.support.stub_worker.turns import Turn, build_prompt, common_prefix, first_stop

ForBatch = Start | CancelWork | Suspend | Known | Drop | Shrink


class Batch:
    """All requests of one loaded model, and the contexts that stay in memory behind them."""

    def __init__(
        self,
        send: Callable[[FromWorker], None],
        record: ModelRecord,
        files: StubFiles,
        trigger: Trigger,
    ) -> None:
        self._send = send
        self.record = record
        self._files = files
        self._trigger = trigger
        self._faults = trigger.faults
        self.turns: dict[str, Turn] = {}
        self.live: dict[str, list[int]] = {}

    def handle(self, message: ForBatch) -> None:
        match message:
            case Start():
                self._start(message)
            case CancelWork(request=request):
                self._cancel(request)
            case Suspend():
                self._suspend(message)
            case Known():
                self._restore(message)
            case Drop(session=session):
                self.live.pop(session, None)
            case Shrink(keep=keep):
                self._shrink(keep)
            case _:
                assert_never(message)

    def step(self) -> bool:
        """One token or chunk for every request that runs; false if none does."""
        running = [turn for turn in self.turns.values() if turn.state != "lookup"]
        is_held = bool(running) and self._trigger.is_held("token")
        for turn in running:
            if turn.state == "prefill":
                self._prefill_chunk(turn)
            elif not (is_held and turn.emitted):
                self._emit(turn)
        if is_held or (running and self._faults.slow_token_s):
            time.sleep(self._faults.slow_token_s or LOOK_S)  # as a test asked
        return bool(running)

    def write_tails(self, sessions: tuple[str, ...] | None) -> tuple[int, list[str]]:
        """Bytes written for live contexts (of `sessions`, or all), and the sessions that failed."""
        size, failed = 0, []
        for session, ids in self.live.items():
            if sessions is not None and session not in sessions:
                continue
            if self._files.is_durable(session, ids):
                continue
            if self._faults.checkpoint_fail and self._trigger.is_armed():
                failed.append(session)
                self._fail_write(session)
                continue
            size += self._files.write_tail(session, ids)
        return size, failed

    def _fail_write(self, session: str) -> None:
        fault = self._faults.checkpoint_fail
        code = "disk_full" if fault is True else str(fault)
        told = "no space left (stub)"
        self._send(WriteFailed(code=code, message=told, file="tails/x", session=session))

    def _shrink(self, keep: int) -> None:
        if self._faults.ignore_shrink:
            return
        for session in tuple(self.live)[: max(0, len(self.live) - keep)]:
            ids = self.live.pop(session)
            if not self._files.is_durable(session, ids):
                self._files.write_tail(session, ids)

    def _start(self, start: Start) -> None:
        """Refuses, begins from memory, or asks which files there are."""
        if self._faults.refuse:
            self._refuse(start, self._faults.refuse, "refused (stub)")
            return
        if start.resume is not None:
            prompt, rendered = unpack_tokens(start.resume.prompt), False
        else:
            prompt, rendered = build_prompt(start)
        limit = self.record.context_tokens
        if not prompt:
            self._refuse(start, "invalid_request", "the prompt is empty")
        elif len(prompt) >= limit:
            facts = {"prompt_tokens": len(prompt), "context_tokens": limit}
            text = f"{len(prompt)} prompt tokens, context {limit}"
            self._refuse(start, "context_overflow", text, facts)
        else:
            turn = Turn(start, self.record.tag, prompt, rendered=rendered)
            self.turns[start.request] = turn
            self._find_context(turn)

    def _refuse(
        self, start: Start, code: str, message: str, facts: dict[str, Any] | None = None
    ) -> None:
        self._send(Refused(request=start.request, code=code, message=message, facts=facts or {}))

    def _find_context(self, turn: Turn) -> None:
        """From what is live, else from what is stored."""
        resume = turn.start.resume
        if resume is not None:
            turn.go_on(unpack_tokens(resume.emitted))
            live = self.live.pop(resume.held_as or "", [])
        else:
            live = self.live.get(turn.start.session or "", [])
        shared = common_prefix(live, turn.ids[:-1])
        if shared and shared == len(live):
            self._begin(turn, restored=shared, live=shared)
            return
        # A tail may hang on the root, so an empty chain is asked for as well.
        chain = block_chain(self.record.tag, turn.ids[:-1])
        self._send(Lookup(request=turn.start.request, blocks=tuple(chain)))

    def _suspend(self, message: Suspend) -> None:
        turn = None
        if not self._faults.ignore_suspend:
            turn = self.turns.pop(message.request, None)
        if turn is None:
            return
        context = turn.ids[:-1] if turn.state == "decode" else turn.ids[: turn.fed]
        self.live[message.hold_as] = context
        self._send(
            Suspended(
                request=message.request,
                hold_as=message.hold_as,
                context=pack_tokens(context),
                hint=b"",
                completion_tokens=turn.emitted,
            )
        )

    def _cancel(self, request: str) -> None:
        turn = self.turns.get(request)
        if turn is not None:
            self._finish(turn, "cancelled")

    def _restore(self, known: Known) -> None:
        turn = self.turns.get(known.request)
        if turn is None or turn.state != "lookup":
            return
        self._trigger.reach("lookup")
        chain = block_chain(self.record.tag, turn.ids[:-1])[: known.count]
        restored, miss = 0, ""
        for block in chain:
            if not self._files.has_block(block):
                miss = "damaged block"
                self._send(Quarantined(file=block_name(block), reason=miss, block=block))
                break
            restored += BLOCK_TOKENS
        tail = self._best_tail(turn, known.tails, restored)
        if tail is not None:
            restored += len(tail.tokens) // 4
        self._begin(turn, restored=restored, live=0, miss=miss)

    def _best_tail(self, turn: Turn, tails: tuple[TailRef, ...], restored: int) -> TailRef | None:
        chain = [root_id(self.record.tag), *block_chain(self.record.tag, turn.ids)]
        parent = chain[restored // BLOCK_TOKENS]
        fitting = [
            tail
            for tail in tails
            if tail.parent == parent
            and turn.ids[restored:-1][: len(tail.tokens) // 4] == unpack_tokens(tail.tokens)
        ]
        for tail in sorted(fitting, key=lambda tail: len(tail.tokens), reverse=True):
            if self._files.has_tail(tail):
                return tail
            self._send(Quarantined(file=tail.file, reason="damaged tail"))
        return None

    def _begin(self, turn: Turn, *, restored: int, live: int, miss: str = "") -> None:
        turn.state = "prefill"
        turn.fed = restored
        self._send(
            Started(
                request=turn.start.request,
                prompt_tokens=len(turn.prompt),
                restored_tokens=restored,
                computed_tokens=len(turn.prompt) - restored,
                live_tokens=live,
                rendered=turn.rendered,
                prompt=pack_tokens(turn.prompt),
                miss=miss,
            )
        )

    def _prefill_chunk(self, turn: Turn) -> None:
        time.sleep(self._faults.prefill_s)  # the delay a test asked for
        boundary = (turn.fed // BLOCK_TOKENS + 1) * BLOCK_TOKENS
        turn.fed = min(boundary, len(turn.ids))
        self._write_blocks(turn, turn.fed)
        self._send(Prefilled(request=turn.start.request, tokens_done=turn.fed))
        if turn.fed == len(turn.ids):
            turn.state = "decode"

    def _emit(self, turn: Turn) -> None:
        if turn.emitted == 0:
            self._trigger.reach("first_token")
            if self._faults.break_request:
                fault = self._faults.break_request
                self._break(turn, "internal" if fault is True else str(fault))
                return
        if turn.emitted == self._faults.token_n:
            self._trigger.reach("token_n")
        if turn.emitted == turn.start.max_tokens:  # the worker before died at its very end
            self._finish(turn, "length", limit="max_tokens")
            return
        if turn.emitted >= self._faults.reply_tokens:
            turn.ids.append(END_OF_TURN)
            self._finish(turn, "stop", closed=True)
            return
        token = turn.source.draw(self.record.vocab_size)
        if turn.emitted == self._faults.lie_token_at:
            token += 1
        turn.source.feed(token)
        if turn.emitted == 0:
            turn.ttft_s = time.monotonic() - turn.began_at
        turn.ids.append(token)
        turn.emitted += 1
        if len(turn.ids) % BLOCK_TOKENS == 0:
            self._write_blocks(turn, len(turn.ids))
        text = decode_token(token)
        stop_at = first_stop(turn.text + text, turn.start.stop)
        shown = (turn.text + text)[len(turn.text) : stop_at]
        turn.text += shown
        self._send(Emitted(request=turn.start.request, tokens=(token,), text=shown))
        if stop_at is not None:
            turn.text = turn.text[:stop_at]
            self._finish(turn, "stop")
        elif turn.emitted == turn.start.max_tokens:
            self._finish(turn, "length", limit="max_tokens")
        elif len(turn.ids) >= self.record.context_tokens:
            self._finish(turn, "length", limit="context")

    def _break(self, turn: Turn, code: str) -> None:
        del self.turns[turn.start.request]
        self._send(Broken(request=turn.start.request, code=code, message="broken (stub)"))

    def _finish(
        self,
        turn: Turn,
        reason: FinishReason,
        *,
        limit: LengthLimit | None = None,
        closed: bool = False,
    ) -> None:
        self._trigger.reach("finish")
        del self.turns[turn.start.request]
        # A prompt cut short stays the context as a whole; only what was fed has KV.
        held = turn.ids if turn.state == "decode" else turn.prompt[: turn.fed]
        self._write_blocks(turn, len(held))
        if turn.start.session is not None and held:
            self.live[turn.start.session] = list(held)
        self._send(
            Finished(
                request=turn.start.request,
                finish_reason=reason,
                limit=limit,
                text=turn.text,
                completion_tokens=turn.emitted,
                context=pack_tokens(turn.ids),
                hint=b"",
                closed=closed,
                ttft_s=turn.ttft_s,
                decode_s=time.monotonic() - turn.began_at - turn.ttft_s,
            )
        )

    def _write_blocks(self, turn: Turn, upto: int) -> None:
        if turn.start.persist:
            self._files.write_blocks(turn.ids[:upto])

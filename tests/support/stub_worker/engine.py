"""An engine without mlx that keeps the contract of the real one: for tests of the supervisor.

One step emits one token for every running request, after prefill in chunks of 256. KV files are
small JSON files under the names the real worker uses (`stub_files`). It sleeps for as long as its
fault switches say that the work takes.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, assert_never

from hotseat.protocol.ids import Epoch
from hotseat.protocol.limits import BLOCK_TOKENS, MIB
from hotseat.protocol.link import (
    Beat,
    Broken,
    CancelWork,
    Checkpoint,
    Checkpointed,
    Counted,
    CountPrompt,
    Drop,
    Emitted,
    Failed,
    Finished,
    FromWorker,
    HoldBlank,
    Known,
    Load,
    Loaded,
    LoadProgress,
    Lookup,
    Prefilled,
    Prepare,
    Prepared,
    Quarantined,
    Refused,
    Reseat,
    Rewrite,
    Shrink,
    Start,
    Started,
    Stop,
    Stopped,
    Suspend,
    Suspended,
    TailRef,
    ToWorker,
    Unload,
    Unloaded,
    Warm,
    Warmed,
    WriteFailed,
)
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.replies import FinishReason, LengthLimit
from hotseat.protocol.tokens import block_chain, pack_tokens, root_id, unpack_tokens
from tests.support.stub_worker.faults import Faults, LoadFault, Trigger
from tests.support.stub_worker.files import StubFiles, block_name
from tests.support.stub_worker.text import END_OF_TURN, decode_token
from tests.support.stub_worker.turns import Turn, build_prompt, common_prefix, first_stop

LOAD_STEPS = 10


class StubEngine:
    def __init__(self, send: Callable[[FromWorker], None], epoch: Epoch, trigger: Trigger) -> None:
        self._send = send
        self._epoch = epoch
        self._base = trigger
        self._trigger = trigger
        self._record: ModelRecord | None = None
        self._turns: dict[str, Turn] = {}
        self._live: dict[str, list[int]] = {}
        self._files: StubFiles | None = None
        self._phase = "standby"
        self._step = 0

    # --- contract -----------------------------------------------------------------------------

    def handle(self, message: ToWorker) -> None:  # noqa: PLR0912 - one case a kind
        match message:
            case Load():
                self._load(message)
            case Warm():
                self._warm()
            case Start():
                self._start(message)
            case CancelWork():
                self._cancel(message.request)
            case Suspend():
                self._suspend(message)
            case CountPrompt():
                self._count(message)
            case Prepare():
                self._send(Prepared(model=message.record.name))
            case Unload():
                self._unload()
            case HoldBlank():
                pass
            case Shrink(keep=keep):
                self._shrink(keep)
            case Reseat():
                pass  # the process shell switches the epoch
            case Known():
                self._restore(message)
            case Drop():
                self._live.pop(message.session, None)
            case Rewrite():
                pass  # the stub keeps nothing to write again
            case Checkpoint():
                self._checkpoint(message)
            case Stop():
                self._stop()
            case _:
                assert_never(message)

    def _count(self, order: CountPrompt) -> None:
        prompt, _ = build_prompt(order.start)
        text = "".join(decode_token(token) for token in prompt) if order.wants_text else ""
        self._send(Counted(request=order.start.request, tokens=pack_tokens(prompt), text=text))

    def step(self) -> bool:
        running = [turn for turn in self._turns.values() if turn.state != "lookup"]
        for turn in running:
            if turn.state == "prefill":
                self._prefill_chunk(turn)
            else:
                self._emit(turn)
        if running and self._faults.slow_token_s:
            time.sleep(self._faults.slow_token_s)
        self._step += bool(running)
        return bool(running)

    def beat(self) -> Beat:
        live = sum(len(ids) for ids in list(self._live.values()))
        weights = 0 if self._record is None else self._record.weights_bytes
        return Beat(
            phase=self._phase,
            step=self._step,
            busy=bool(self._turns),
            active_bytes=weights,
            cache_bytes=0,
            peak_bytes=weights,
            live_kv_bytes=live * 1024,
            live_sessions=tuple(self._live),
        )

    def close(self) -> None:
        self._turns.clear()

    @property
    def _faults(self) -> Faults:
        return self._trigger.faults

    # --- life ---------------------------------------------------------------------------------

    def _load(self, message: Load) -> None:
        self._phase = "loading"
        self._trigger = self._base.for_model(message.record.name)
        faults = self._faults
        total = max(message.record.weights_bytes, 1)
        for done in range(LOAD_STEPS):
            self._send(LoadProgress(bytes_done=total * done // LOAD_STEPS, bytes_total=total))
            time.sleep(faults.load_s / LOAD_STEPS)
            self._step += 1
            if done == LOAD_STEPS // 2:
                self._trigger.reach("load")
                if faults.fail_load and self._trigger.is_armed():
                    self._fail("load", faults.fail_load)
                    return
        self._record = message.record
        self._files = StubFiles(
            self._send, Path(message.kv_dir), message.record.tag, self._epoch, faults.kv
        )
        self._send(LoadProgress(bytes_done=total, bytes_total=total))
        self._send(Loaded(active_bytes=total, seconds=faults.load_s))
        self._phase = "loaded"

    def _warm(self) -> None:
        self._phase = "warming"
        self._trigger.reach("warm")
        time.sleep(self._faults.warm_s)
        if self._faults.fail_warm and self._trigger.is_armed():
            self._fail("warm", self._faults.fail_warm)
            return
        self._step += 1
        self._phase = "ready"
        self._send(Warmed(seconds=self._faults.warm_s, peak_bytes=MIB))

    def _fail(self, during: Literal["load", "warm"], fault: bool | LoadFault) -> None:
        told = fault if isinstance(fault, LoadFault) else LoadFault()
        self._phase = "failed"
        self._send(
            Failed(during=during, code=told.code, message=told.message, permanent=told.permanent)
        )

    def _checkpoint(self, message: Checkpoint) -> None:
        self._trigger.reach("checkpoint")
        time.sleep(self._faults.checkpoint_s)
        failed: list[str] = []
        size = 0
        for session, ids in self._live.items():
            if message.sessions is not None and session not in message.sessions:
                continue
            if self._files is None or self._files.is_durable(session, ids):
                continue
            if self._faults.checkpoint_fail and self._trigger.is_armed():
                failed.append(session)
                self._fail_write(session)
                continue
            size += self._files.write_tail(session, ids)
        self._send(
            Checkpointed(
                swap=message.swap,
                sessions=len(self._live) - len(failed),
                bytes_written=size,
                failed=tuple(failed),
                message="no space left (stub)" if failed else "",
            )
        )

    def _fail_write(self, session: str) -> None:
        fault = self._faults.checkpoint_fail
        code = "disk_full" if fault is True else str(fault)
        self._send(
            WriteFailed(code=code, message="no space left (stub)", file="tails/x", session=session)
        )

    def _stop(self) -> None:
        self._trigger.reach("stop")
        if self._faults.ignore_stop:
            return
        time.sleep(self._faults.stop_s)
        self._phase = "stopped"
        self._send(Stopped())

    # --- one request --------------------------------------------------------------------------

    def _start(self, start: Start) -> None:
        self._trigger.reach("start")
        record = self._record
        if record is None:
            self._refuse(start, "internal", "no model is loaded")
            return
        if self._faults.refuse:
            self._refuse(start, self._faults.refuse, "refused (stub)")
            return
        if start.resume is not None:
            prompt, rendered = unpack_tokens(start.resume.prompt), False
        else:
            prompt, rendered = build_prompt(start)
        if not prompt:
            self._refuse(start, "invalid_request", "the prompt is empty")
            return
        if len(prompt) >= record.context_tokens:
            self._send(
                Refused(
                    request=start.request,
                    code="context_overflow",
                    message=f"{len(prompt)} prompt tokens, context {record.context_tokens}",
                    facts={
                        "prompt_tokens": len(prompt),
                        "context_tokens": record.context_tokens,
                    },
                )
            )
            return
        turn = Turn(start, record.tag, prompt, rendered=rendered)
        self._turns[start.request] = turn
        if start.resume is not None:
            turn.go_on(unpack_tokens(start.resume.emitted))
            self._live_resume(turn)
            return
        live = self._live.get(start.session or "", [])
        shared = common_prefix(live, prompt[:-1])
        if shared and shared == len(live):
            self._begin(turn, restored=shared, live=shared)
            return
        chain = block_chain(record.tag, prompt[:-1])
        # A tail may hang on the root, so an empty chain is asked for as well.
        self._send(Lookup(request=start.request, blocks=tuple(chain)))

    def _live_resume(self, turn: Turn) -> None:
        """From the held live entry, else from what is stored."""
        assert self._record is not None and turn.start.resume is not None
        live = self._live.pop(turn.start.resume.held_as or "", [])
        shared = common_prefix(live, turn.ids[:-1])
        if shared and shared == len(live):
            self._begin(turn, restored=shared, live=shared)
            return
        chain = block_chain(self._record.tag, turn.ids[:-1])
        self._send(Lookup(request=turn.start.request, blocks=tuple(chain)))

    def _suspend(self, message: Suspend) -> None:
        turn = None
        if not self._faults.ignore_suspend:
            turn = self._turns.pop(message.request, None)
        if turn is None:
            return
        context = turn.ids[:-1] if turn.state == "decode" else turn.ids[: turn.fed]
        self._live[message.hold_as] = context
        self._send(
            Suspended(
                request=message.request,
                hold_as=message.hold_as,
                context=pack_tokens(context),
                hint=b"",
                completion_tokens=turn.emitted,
            )
        )

    def _shrink(self, keep: int) -> None:
        if self._faults.ignore_shrink:
            return
        for session in tuple(self._live)[: max(0, len(self._live) - keep)]:
            ids = self._live[session]
            if self._files is not None and not self._files.is_durable(session, ids):
                self._files.write_tail(session, ids)
            del self._live[session]

    def _unload(self) -> None:
        record, self._record = self._record, None
        self._turns.clear()
        self._live.clear()
        self._files = None
        self._phase = "standby"
        size = 0 if record is None else record.weights_bytes
        lost = size if self._faults.unload_keeps_memory else 0
        self._send(
            Unloaded(
                active_before=size,
                active_after=lost,
                footprint_before=size + MIB,
                footprint_after=lost + MIB,
                leaked=("Model",) if lost else (),
            )
        )

    def _refuse(self, start: Start, code: str, message: str) -> None:
        self._send(Refused(request=start.request, code=code, message=message))

    def _restore(self, known: Known) -> None:
        turn = self._turns.get(known.request)
        if turn is None or turn.state != "lookup" or self._record is None or self._files is None:
            return
        self._trigger.reach("lookup")
        chain = block_chain(self._record.tag, turn.ids[:-1])[: known.count]
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
        assert self._record is not None and self._files is not None
        chain = [root_id(self._record.tag), *block_chain(self._record.tag, turn.ids)]
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
        time.sleep(self._faults.prefill_s)
        boundary = (turn.fed // BLOCK_TOKENS + 1) * BLOCK_TOKENS
        turn.fed = min(boundary, len(turn.ids))
        self._write_blocks(turn, turn.fed)
        self._send(
            Prefilled(request=turn.start.request, tokens_done=turn.fed, tokens_total=len(turn.ids))
        )
        if turn.fed == len(turn.ids):
            turn.state = "decode"

    def _emit(self, turn: Turn) -> None:
        assert self._record is not None
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
        token = turn.source.draw(self._record.vocab_size)
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
        elif len(turn.ids) >= self._record.context_tokens:
            self._finish(turn, "length", limit="context")

    def _cancel(self, request: str) -> None:
        turn = self._turns.get(request)
        if turn is not None:
            self._finish(turn, "cancelled")

    def _break(self, turn: Turn, code: str) -> None:
        del self._turns[turn.start.request]
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
        del self._turns[turn.start.request]
        # A prompt cut short stays the context as a whole; only what was fed has KV.
        held = turn.ids if turn.state == "decode" else turn.prompt[: turn.fed]
        self._write_blocks(turn, len(held))
        if turn.start.session is not None and held:
            self._live[turn.start.session] = list(held)
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
        if turn.start.persist and self._files is not None:
            self._files.write_blocks(turn.ids[:upto])

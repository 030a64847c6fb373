"""An engine without mlx that keeps the contract of the real one: for tests of the supervisor.

Loads, warms, checkpoints and lets go of a model. Requests are the business of `batch`, of which it
knows the messages only. It sleeps for as long as its fault switches say that the work takes.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, assert_never

from hotseat.protocol.ids import Epoch
from hotseat.protocol.limits import MIB
from hotseat.protocol.link_orders import (
    CancelWork,
    Checkpoint,
    CountPrompt,
    Defer,
    Drop,
    HoldBlank,
    Known,
    Load,
    Prepare,
    Reseat,
    Rewrite,
    Shrink,
    Start,
    Stop,
    Suspend,
    ToWorker,
    Unload,
    Warm,
)
from hotseat.protocol.link_reports import (
    Beat,
    Checkpointed,
    Counted,
    Failed,
    FromWorker,
    Loaded,
    LoadProgress,
    Prepared,
    Refused,
    Stopped,
    Unloaded,
    Unwired,
    Warmed,
)
from hotseat.protocol.tokens import pack_tokens
from tests.support.stub_worker.batch import Batch, ForBatch
from tests.support.stub_worker.faults import Faults, LoadFault, Trigger
from tests.support.stub_worker.files import StubFiles
from tests.support.stub_worker.text import decode_token
from tests.support.stub_worker.turns import build_prompt

LOAD_STEPS = 10


class StubEngine:
    def __init__(
        self,
        send: Callable[[FromWorker], None],
        epoch: Epoch,
        trigger: Trigger,
        batch: type[Batch] = Batch,
    ) -> None:
        self._send = send
        self._epoch = epoch
        self._base = trigger
        self._trigger = trigger
        self._batch_kind = batch
        self._batch: Batch | None = None
        self._phase = "standby"
        self._step = 0

    def handle(self, message: ToWorker) -> None:
        match message:
            case Load():
                self._load(message)
            case Warm():
                self._warm()
            case Start() | CancelWork() | Suspend() | Known() | Drop() | Shrink():
                self._tell_batch(message)
            case CountPrompt():
                self._count(message)
            case Prepare():
                self._send(Prepared(model=message.record.name))
            case Unload():
                self._unload()
            case HoldBlank():
                pass
            case Reseat():
                pass  # the process shell switches the epoch
            case Defer() | Rewrite():
                pass  # the stub keeps nothing to write later or again
            case Checkpoint():
                self._checkpoint(message)
            case Stop():
                self._stop()
            case _:
                assert_never(message)

    def _tell_batch(self, message: ForBatch) -> None:
        if isinstance(message, Start):
            self._trigger.reach("start")
        if self._batch is not None:
            self._batch.handle(message)
        elif isinstance(message, Start):
            told = "no model is loaded"
            self._send(Refused(request=message.request, code="internal", message=told))

    def _count(self, order: CountPrompt) -> None:
        prompt, _ = build_prompt(order.start)
        text = "".join(decode_token(token) for token in prompt) if order.wants_text else ""
        self._send(Counted(request=order.start.request, tokens=pack_tokens(prompt), text=text))

    def step(self) -> bool:
        works = self._batch is not None and self._batch.step()
        self._step += works
        return works

    def beat(self) -> Beat:
        batch = self._batch
        live = {} if batch is None else dict(batch.live)
        weights = 0 if batch is None else batch.record.weights_bytes
        return Beat(
            phase=self._phase,
            step=self._step,
            busy=batch is not None and bool(batch.turns),
            active_bytes=weights,
            cache_bytes=0,
            peak_bytes=weights,
            live_kv_bytes=sum(len(ids) for ids in live.values()) * 1024,
            live_sessions=tuple(live),
        )

    def unwire(self) -> None:
        if self._faults.unwire_s is not None:
            self._send(Unwired(seconds=self._faults.unwire_s))

    def close(self) -> None:
        if self._batch is not None:
            self._batch.turns.clear()

    @property
    def _faults(self) -> Faults:
        return self._trigger.faults

    def _load(self, message: Load) -> None:
        self._phase = "loading"
        self._trigger = self._base.for_model(message.record.name)
        faults = self._faults
        total = max(message.record.weights_bytes, 1)
        for done in range(LOAD_STEPS):
            self._send(LoadProgress(bytes_done=total * done // LOAD_STEPS, bytes_total=total))
            time.sleep(faults.load_s / LOAD_STEPS)  # the delay a test asked for
            self._step += 1
            if done == LOAD_STEPS // 2:
                self._trigger.reach("load")
                if faults.fail_load and self._trigger.is_armed():
                    self._fail("load", faults.fail_load)
                    return
        files = StubFiles(
            self._send, Path(message.kv_dir), message.record.tag, self._epoch, faults.kv
        )
        self._batch = self._batch_kind(self._send, message.record, files, self._trigger)
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
        held = written = 0
        failed: list[str] = []
        if self._batch is not None:
            held = len(self._batch.live)
            written, failed = self._batch.write_tails(message.sessions)
        self._send(
            Checkpointed(
                swap=message.swap,
                sessions=held - len(failed),
                bytes_written=written,
                failed=tuple(failed),
                message="no space left (stub)" if failed else "",
            )
        )

    def _stop(self) -> None:
        self._trigger.reach("stop")
        if self._faults.ignore_stop:
            return
        time.sleep(self._faults.stop_s)
        self._phase = "stopped"
        self._send(Stopped())

    def _unload(self) -> None:
        batch, self._batch = self._batch, None
        self._phase = "standby"
        size = 0 if batch is None else batch.record.weights_bytes
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

"""The engine: takes the supervisor's messages and steps the model. One thread owns it.

It executes. It decides nothing about models, sessions or durability, and holds nothing that could
not be computed again.
"""

from collections.abc import Callable
from pathlib import Path
from typing import assert_never

import mlx.core as mx

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import Epoch, RequestKey
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
    PREPARING,
    TRYING,
    Beat,
    Broken,
    Checkpointed,
    Failed,
    FromWorker,
    LoadProgress,
    Refused,
    Stopped,
    Unwired,
)
from hotseat.worker.batch.seat import Seat
from hotseat.worker.beat_figures import BeatFigures
from hotseat.worker.counting import count_prompt
from hotseat.worker.dying import pass_on_loss
from hotseat.worker.model.kernel_warming import KernelWarming
from hotseat.worker.model.loading import (
    LoadFailedError,
    load_kit,
    load_model,
    warm_model,
)
from hotseat.worker.model.metal import unwire, wire_active
from hotseat.worker.model.preparing import Preparer
from hotseat.worker.model.touched_memory import BlankMemory
from hotseat.worker.model.unloading import Unloading
from hotseat.worker.store.reader import Restorer


class Engine:
    """Runs one model. All but `beat` is called on the thread that made it.

    `send` takes messages from any thread; `restorer` reads KV files off this one.
    """

    def __init__(
        self,
        send: Callable[[FromWorker], None],
        epoch: Epoch,
        restorer: Restorer,
    ) -> None:
        self._send = send
        self._epoch = epoch
        self._restorer = restorer
        self._preparer = Preparer(send, load_kit, count_prompt)
        self._kernels = KernelWarming(send)
        self._blank = BlankMemory()
        self._seat: Seat | None = None
        self._phase = "empty"
        self._steps = 0
        self._is_stopping = False
        self._seen = self._look()

    def handle(self, message: ToWorker) -> None:  # noqa: C901, PLR0912 - one case a kind
        """Takes a message; what it causes is sent now or by later steps."""
        match message:
            case Start() | CancelWork() | Suspend() | Known() | Drop():
                self._handle_work(message)
            case Rewrite(block=block):
                if self._seat is not None:
                    self._seat.keeper.forget_stored(block)
            case Defer(blocks=blocks):
                if self._seat is not None:
                    self._seat.keeper.defer_blocks(is_wanted=blocks)
            case Load():
                self._load(message)
            case Warm():
                self._warm()
            case CountPrompt():
                self._count(message)
            case Prepare():
                self._preparer.put(message)
                self._kernels.put(message)
            case HoldBlank(size_bytes=size_bytes, free_floor_bytes=floor_bytes):
                self._blank.hold(size_bytes, floor_bytes)
            case Checkpoint():
                self._checkpoint(message)
            case Unload():
                self._unload()
            case Shrink(keep=keep):
                self._shrink(keep)
            case Reseat(epoch=epoch):
                self._epoch = epoch
            case Stop():
                self._stop()
            case _:
                assert_never(message)
        self._seen = self._look()

    def step(self) -> bool:
        """One decode step of every batch and about one chunk of prompts; False if idle.

        Without a seat, one evaluation for a model that may be next.
        """
        seat = self._seat
        if seat is None:
            return self._kernels.step()
        worked = seat.keeper.settle()
        worked = seat.enter() or worked
        worked = seat.decode() or worked
        worked = seat.feed() or worked
        worked = worked or seat.keeper.finish_captures()
        if worked:
            self._steps += 1
            self._seen = self._look()
        return worked

    def beat(self) -> Beat:
        """The state as of the last step, with fresh allocator figures; from any thread."""
        seat = self._seat
        seen = self._seen
        streamed_bytes, streamed_s = seat.read_figures if seat else (0, 0.0)
        return Beat(
            phase=self._phase_now(seat),
            step=self._steps + (seat.trial.passes if seat else 0),
            busy=seen is not None and seen.busy,
            active_bytes=int(mx.get_active_memory()),
            cache_bytes=int(mx.get_cache_memory()),
            peak_bytes=int(mx.get_peak_memory()),
            live_kv_bytes=seen.live_kv_bytes() if seen is not None else 0,
            live_sessions=seen.sessions if seen is not None else (),
            backlog_bytes=seat.keeper.backlog_bytes if seat else 0,
            blank_bytes=self._blank.held_bytes,
            streamed_bytes=streamed_bytes,
            streamed_s=streamed_s,
        )

    def unwire(self) -> None:
        """Before the process or its model goes: what stays wired then is nobody's."""
        seconds = unwire()
        if seconds is not None:
            self._send(Unwired(seconds=seconds))

    def close(self) -> None:
        """Writes what was put, ends the threads, gives the memory back."""
        if self._seat is not None:
            self._seat.close()
            self._seat = None
        self._restorer.close()
        self._preparer.close()
        self._kernels.drop()
        self._blank.close()
        mx.clear_cache()

    def _handle_work(self, message: Start | CancelWork | Suspend | Known | Drop) -> None:
        seat = self._seat
        match message:
            case Start():
                self._start(message)
            case Known():
                if seat is not None:
                    seat.entry.known(message)
            case Drop(session=name):
                self._drop(name)
            case CancelWork(request=request):
                if seat is not None and not seat.entry.cancel(request):
                    seat.runner.cancel(request)
            case Suspend(request=request, hold_as=name):
                if seat is not None and not seat.entry.suspend(request, name):
                    seat.runner.suspend(request, name)
            case _:
                assert_never(message)

    def _phase_now(self, seat: Seat | None) -> str:
        """With what a step may be doing for long; from any thread."""
        if seat is None:
            return PREPARING if self._kernels.is_busy else self._phase
        return TRYING if seat.trial.is_running else self._phase

    def _load(self, message: Load) -> None:
        if self._seat is not None:
            name = self._seat.seated.record.name
            text = f"{name} is loaded already; a worker loads one model"
            self._send(Failed(during="load", code="internal", message=text, permanent=True))
            return
        self._phase = "loading"
        self._kernels.drop()

        def report(done: int, total: int, next_bytes: int) -> None:
            self._steps += 1
            self._send(LoadProgress(bytes_done=done, bytes_total=total, next_bytes=next_bytes))

        try:
            with self._blank.lent():
                seated, loaded = load_model(message, report, self._preparer.take)
        except LoadFailedError as error:
            self._fail("load", error)
            return
        self._restorer.bind(Path(message.kv_dir), message.record)
        self._seat = Seat(seated, self._epoch, self._restorer, self._send)
        wire_active(is_wanted=message.wire == "weights")
        self._phase = "loaded"
        self._send(loaded)

    def _warm(self) -> None:
        if self._seat is None:
            text = "nothing is loaded that could be warmed"
            self._send(Failed(during="warm", code="internal", message=text, permanent=True))
            return
        self._phase = "warming"
        try:
            warmed = warm_model(self._seat.seated)
        except LoadFailedError as error:
            self._fail("warm", error)
            return
        self._steps += 1
        self._phase = "ready"
        self._send(warmed)

    def _fail(self, during: str, error: LoadFailedError) -> None:
        self._phase = "failed"
        self._send(
            Failed(
                during="load" if during == "load" else "warm",
                code=error.code,
                message=error.message,
                permanent=error.permanent,
                facts=error.facts,
            )
        )

    def _start(self, message: Start) -> None:
        if self._seat is None or self._is_stopping:
            code = "shutting_down" if self._is_stopping else "not_seated"
            text = "the worker is stopping" if self._is_stopping else "no model is loaded"
            self._send(Refused(request=message.request, code=code, message=text))
            return
        try:
            self._seat.entry.offer(message)
        except HotseatError as error:
            self._break(message.request, error.message)
        except Exception as error:  # noqa: BLE001 - one bad request must not take the engine down
            pass_on_loss(error)
            self._break(message.request, str(error) or type(error).__name__)

    def _break(self, request: RequestKey, reason: str) -> None:
        text = f"the request could not go on: {reason}"
        self._send(Broken(request=request, code="internal", message=text))

    def _unload(self) -> None:
        self.unwire()
        leaving = Unloading(None if self._seat is None else self._seat.seated.model)
        if self._seat is not None:
            for request in self._seat.requests():
                self._break(request, "the model was unloaded")
            self._seat.close()
            self._seat = None
        self._phase = "empty"
        self._send(leaving.report())

    def _drop(self, name: str) -> None:
        seat = self._seat
        if seat is None:
            return
        seat.keeper.live.take(name)
        seat.entry.forget_session(name)
        for turn in seat.runner.turns():
            if turn.session == name:
                turn.session = None

    def _shrink(self, keep: int) -> None:
        if self._seat is not None:
            self._seat.keeper.shrink(keep)
        mx.clear_cache()

    def _checkpoint(self, order: Checkpoint) -> None:
        if self._seat is None:
            self._send(Checkpointed(swap=order.swap, sessions=0, bytes_written=0))
        else:
            self._seat.keeper.checkpoint(order.swap, order.sessions)

    def _count(self, order: CountPrompt) -> None:
        """With the seated model's tokenizer here, since it must not be used by two threads."""
        seat = self._seat
        if seat is not None and seat.seated.record.tag == order.record.tag:
            self._send(count_prompt(seat.seated.kit, order))
        else:
            self._preparer.put(order)

    def _stop(self) -> None:
        self._is_stopping = True
        self._kernels.drop()
        self._phase = "stopping"
        if self._seat is None:
            self._send(Stopped())
        else:
            self._seat.keeper.after_written(Stopped())

    def _look(self) -> BeatFigures | None:
        """After every step, so it only takes down what the next one changes."""
        seat = self._seat
        if seat is None:
            return None
        return BeatFigures(
            budget=seat.budget,
            busy=bool(len(seat.entry) or seat.runner.is_busy),
            rows=seat.runner.rows(),
            idle_bytes=seat.keeper.live.size_bytes + seat.runner.reservations.streamed_bytes,
            sessions=seat.keeper.live.names(),
        )

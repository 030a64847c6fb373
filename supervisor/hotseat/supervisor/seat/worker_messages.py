"""What the seated worker says, and that it ended, as events of the seat's table.

Knows nothing of requests: what concerns them goes out through `SeatHost`.
"""

import random
import signal
from typing import Protocol

import msgspec
import structlog

from hotseat.protocol.ids import Epoch
from hotseat.protocol.link_orders import QUIET_CHECKPOINT
from hotseat.protocol.link_reports import (
    Beat,
    Checkpointed,
    ContextsTried,
    Failed,
    FromWorker,
    Loaded,
    LoadProgress,
    Stopped,
    Unloaded,
    Unwired,
    Warmed,
    WorkerHello,
)
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.seat.host import SeatHost, SeatNews, fault_of
from hotseat.supervisor.seat.memory_gate import unload_fault
from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.states import Fault, Phase, SeatEvent
from hotseat.supervisor.seat.rules.worker_exits import describe_exit
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.seat.worker_process import WorkerExit

log = structlog.get_logger()


class SeatTable(Protocol):
    """Who runs the table."""

    def feed(self, event: SeatEvent) -> None:
        """Something happened."""

    def end_checkpoint(self, message: Checkpointed) -> None:
        """Contexts are written; what was reported has to be committed before the table knows."""

    def note_unwired(self, seconds: float) -> None:
        """What the worker had wired is given back."""


class WorkerMessages:
    """Of one seat. Frames come here when they are of its worker and its epoch."""

    def __init__(
        self, seat: Seat, host: SeatHost, news: SeatNews, planner: Planner, table: SeatTable
    ) -> None:
        self._seat = seat
        self._host = host
        self._news = news
        self._planner = planner
        self._table = table
        self.in_process_verified = False
        """True when the last unload in place on this machine gave its memory back."""

    def receive(self, epoch: Epoch, message: FromWorker) -> None:  # noqa: C901, PLR0912 - a case each
        """A frame."""
        self._seat.hear(message)
        feed = self._table.feed
        match message:
            case WorkerHello():
                self._planner.learn_working_set(message.working_set_bytes)
                self.greet(epoch, message)
            case LoadProgress(bytes_done=done, bytes_total=total):
                feed(t.LoadAdvanced(epoch=epoch))
                self._news.load_advanced(self._seat.state.model or "", done, total)
            case Loaded():
                feed(t.LoadEnded(epoch=epoch))
            case Failed():
                self._failed(epoch, message)
            case Warmed():
                feed(t.WarmEnded(epoch=epoch))
            case Unloaded():
                self._end_unload(epoch, message)
            case Checkpointed(swap=swap) if swap != QUIET_CHECKPOINT:
                self._table.end_checkpoint(message)
            case ContextsTried(trial=trial):
                if self._seat.record is not None:
                    self._planner.trials[self._seat.record.tag] = trial
            case Unwired(seconds=seconds):
                self._table.note_unwired(seconds)
            case Beat() | Stopped():
                pass
            case _:
                record = self._seat.record
                got_on = record is not None and self._host.worker_said(message, record)
                state = self._seat.state
                if got_on and (state.deaths or state.gpu.in_a_row):
                    feed(t.WorkAdvanced(epoch=epoch))

    def greet(self, epoch: Epoch, hello: WorkerHello) -> None:
        """A worker is there, if it shows the secret that it was started with."""
        process = self._seat.process
        if process is None or hello.token != process.secret:
            log.error("worker.hello_refused", epoch=epoch, pid=hello.pid)
            return
        if not self._seat.code.is_of(hello.code):
            refusal = self._seat.code.refusal_of_worker()
            log.error("worker.of_other_code", epoch=epoch, pid=hello.pid, reason=refusal.message)
            process.signal(signal.SIGKILL)  # it has neither weights nor contexts
            self._table.feed(t.StartRefused(epoch=epoch, fault=fault_of(refusal)))
            return
        self._table.feed(t.Greeted(epoch=epoch))

    def reaped(self, ended: WorkerExit) -> None:
        """The kernel says that it is gone."""
        seat = self._seat
        fault = describe_exit(
            ended.returncode,
            ended.sent,
            ended.stderr,
            epoch=ended.epoch,
            model=seat.state.model or "",
        )
        if seat.process is not None and seat.process.pid == ended.pid:
            seat.process = None
            if seat.link is not None:
                seat.link.close()
                seat.link = None
        self._news.worker_exited(ended, fault, asked=seat.state.phase is Phase.STOPPING)
        self._host.worker_exited(ended)
        jitter = random.random()  # noqa: S311 - spreads restarts, guards nothing
        self._table.feed(t.WorkerDied(epoch=ended.epoch, fault=fault, jitter=jitter))

    def _end_unload(self, epoch: Epoch, message: Unloaded) -> None:
        """Believed only when weak references, the allocator and the OS agree."""
        log.info("worker.unloaded", epoch=epoch, **msgspec.structs.asdict(message))
        fault = unload_fault(message, self._seat.resident_bytes if self._seat.record else 0)
        self.in_process_verified = fault is None
        self._seat.record = None
        self._table.feed(t.UnloadEnded(epoch=epoch, fault=fault))

    def _failed(self, epoch: Epoch, failed: Failed) -> None:
        fault = Fault(
            code=failed.code, message=failed.message, permanent=failed.permanent, facts=failed.facts
        )
        ended = t.LoadEnded if failed.during == "load" else t.WarmEnded
        self._table.feed(ended(epoch=epoch, fault=fault))

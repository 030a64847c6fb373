"""The runner of the seat table: performs its effects and feeds back what happens.

The only owner of the seat's state, the worker process and the link. Knows nothing of requests:
what concerns them goes out through `SeatHost`.
"""

import asyncio
import random
import signal
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from hotseat.protocol import failpoints
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import Epoch
from hotseat.protocol.link import (
    QUIET_CHECKPOINT,
    Beat,
    Checkpoint,
    Checkpointed,
    Failed,
    FromWorker,
    Loaded,
    LoadProgress,
    Reseat,
    Stop,
    Stopped,
    ToWorker,
    Unload,
    Unloaded,
    Warm,
    Warmed,
    WorkerHello,
)
from hotseat.protocol.model import ModelRecord
from hotseat.supervisor.machine.locks import SeatLock
from hotseat.supervisor.machine.time_awake import AwakeClock
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.ports.worker_link import WorkerLink
from hotseat.supervisor.seat.host import SeatHost, SwapFigures, fault_of
from hotseat.supervisor.seat.load_order import load_order
from hotseat.supervisor.seat.memory_gate import MemoryGate, unload_fault
from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.states import SETTLED, Fault, Phase, SeatEvent, SeatState
from hotseat.supervisor.seat.rules.table import next_state
from hotseat.supervisor.seat.rules.worker_exits import describe_exit
from hotseat.supervisor.seat.standby import Seatable, Standby
from hotseat.supervisor.seat.worker_process import WorkerExit, WorkerProcess
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.values import Deadlines

log = structlog.get_logger()


class SeatRunner:
    """Owns the seat. Everything runs on the loop's thread."""

    def __init__(
        self,
        home: Home,
        deadlines: Deadlines,
        planner: Planner,
        lock: SeatLock,
        host: SeatHost,
    ) -> None:
        self.state = SeatState(since=time.monotonic())
        self._checkpoint = 0
        self.beat: Beat | None = None
        self.record: ModelRecord | None = None
        self.kv_budget_bytes: int | None = None
        self.limit_bytes: int | None = None
        self.on_frame: Callable[[FromWorker], None] = lambda _message: None
        """Called for every frame of the seated worker, beats included."""
        self.awake = AwakeClock(time.monotonic())
        self.working_set_bytes: int | None = None
        self._home = home
        self.deadlines = deadlines
        self._planner = planner
        self.lock = lock
        self._host = host
        self.standby = Standby(
            home,
            inherit=lock.fileno,
            next_epoch=self._next_epoch,
            route=self._receive,
            exited=self._reaped,
            enabled=planner.settings.seat.standby == "on",
        )
        self._link: WorkerLink | None = None
        self._process: WorkerProcess | None = None
        self._events: deque[SeatEvent] = deque()
        self._feeding = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._figures = SwapFigures()
        self._gate = MemoryGate(planner)
        self.in_process_verified = False  # by the last unload in place on this machine

    @property
    def worker_pid(self) -> int | None:
        """Of the worker that lives, if one does."""
        return self._process.pid if self._process is not None else None

    @property
    def admits(self) -> bool:
        """True when requests for the seated model may start."""
        return self.state.phase is Phase.READY

    @property
    def serving_epoch(self) -> int | None:
        """Epoch of the worker that takes requests, those it is draining included."""
        serves = self.state.phase in {Phase.READY, Phase.DRAINING}
        return self.state.epoch if serves else None

    def _next_epoch(self) -> Epoch | None:
        return Epoch(self.state.epoch + 1) if self.state.phase in SETTLED else None

    def send(self, message: ToWorker) -> bool:
        """To the seated worker; False when there is none or it does not read."""
        return self._link is not None and self._link.send(message)

    def feed(self, event: SeatEvent) -> None:
        """Runs the table on an event; events that effects cause are handled after it."""
        self._events.append(event)
        if self._feeding:
            return
        self._feeding = True
        try:
            while self._events:
                self._step_table(self._events.popleft())
        finally:
            self._feeding = False
        self._arm_timer()

    def _step_table(self, event: SeatEvent) -> None:
        before = self.state
        self.state, effects = next_state(before, event, time.monotonic(), self.deadlines)
        if self.state.phase is not before.phase:
            self._host.phase_changed(self.state)
        for effect in effects:
            self._perform(effect)

    def _arm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.state.deadline is not None:
            delay_s = max(0.0, self.state.deadline - time.monotonic())
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(delay_s + 0.001, self._deadline_passed)

    def _deadline_passed(self) -> None:
        self.note_sleep(time.monotonic())
        self.feed(t.TimePassed())

    def note_sleep(self, now: float) -> None:
        """Time in which this process did not run is given back to the phase under way."""
        lost_s = self.awake.take_lost_s(now)
        if lost_s:
            log.info("daemon.slept", lasted_s=round(lost_s, 1))
            self.feed(t.Slept(lasted_s=lost_s))

    async def dump_stacks(self) -> tuple[str, ...]:
        """Where the threads of the seated worker are, as it wrote it itself."""
        return () if self._process is None else await self._process.dump_stacks()

    def _perform(self, effect: t.SeatEffect) -> None:  # noqa: C901, PLR0912 - one case per effect
        if failpoints.ARMED:
            failpoints.reach(f"seat.does.{type(effect).__name__}")
        match effect:
            case t.StopAdmission():
                self._figures = self._gate.measure()
                self._host.admission_stopped()
            case t.ResumeAdmission():
                self._host.admission_resumed()
            case t.SuspendRunning():
                self._host.suspend_running()
            case t.CancelRunning():
                self._host.cancel_running()
            case t.LoseRunning(fault):
                self._host.running_lost(fault)
            case t.SendCheckpoint(swap):
                self._checkpoint = swap
                self.send(Checkpoint(swap=swap))
            case t.AskStop():
                if not self.send(Stop()):
                    self._signal(signal.SIGTERM)
            case t.SendUnload():
                self.standby.hold_blank(0, 0)  # the next load is not the standby's
                self.send(Unload())
            case t.SendReseat(epoch, model):
                self._reseat(Epoch(epoch), model)
            case t.DumpStacks():
                self._signal(signal.SIGUSR1)
            case t.SendTerm():
                self._signal(signal.SIGTERM)
            case t.SendKill():
                self._signal(signal.SIGKILL)
            case t.AwaitMemory(epoch, _, delay_s):
                self._spawn(self._await_memory(epoch, time.monotonic() + delay_s))
            case t.Spawn(epoch, model):
                self._spawn(self._start_worker(Epoch(epoch), model))
            case t.SendLoad(model):
                self._send_load(model)
            case t.SendWarm():
                self.send(Warm())
            case t.SwapDone():
                self._host.swap_done(effect, self._figures)
                self._figures = SwapFigures()
            case t.SwapFailed():
                self._host.swap_failed(effect)
            case t.ReleaseSeat():
                self.record = None
                self.lock.release()
            case t.Exit():
                self._host.exit()

    # --- effects that take time -----------------------------------------------------------------

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_worker(self, epoch: Epoch, model: str) -> None:
        """Takes the machine's seat, binds the link, starts the process."""
        try:
            record = self._planner.registry.get(model)
            self.lock.acquire(model, record.weights_bytes)
            worker = await self.standby.take(epoch)
            from_standby = worker is not None
            if worker is None:
                worker = await self._start_fresh(epoch)
        except HotseatError as error:
            self.feed(t.StartRefused(epoch=epoch, fault=fault_of(error)))
            return
        self._link, self._process, self.beat = worker.link, worker.process, None
        log.info(
            "worker.started",
            epoch=epoch,
            pid=worker.process.pid,
            model=model,
            from_standby=from_standby,
        )
        if self.state.epoch != epoch or self.state.phase is not Phase.STARTING:
            worker.process.signal(signal.SIGKILL)  # the table gave up while it was starting
        elif worker.hello is not None:
            self._greet(epoch, worker.hello)

    async def _start_fresh(self, epoch: Epoch) -> Seatable:
        try:
            return await self.standby.start_worker(epoch)
        except OSError as error:
            raise HotseatError("internal", f"no worker could be started: {error}") from error

    async def _await_memory(self, epoch: int, not_before: float) -> None:
        """The table's deadline ends the wait."""

        def target() -> tuple[bool, str | None]:
            state = self.state
            waits = state.phase is Phase.RECLAIMING and state.epoch == epoch
            return waits, state.plan.target if state.plan else None

        if await self._gate.wait(target, self._figures, not_before):
            self.feed(t.Reclaimed(epoch=epoch))

    def _send_load(self, model: str) -> None:
        try:
            record = self._planner.registry.get(model)
            plan = self._planner.plan(record, own_footprint_bytes=0)
        except HotseatError as error:
            self.feed(t.LoadEnded(epoch=self.state.epoch, fault=fault_of(error)))
            return
        self.record, self.limit_bytes = record, plan.limit_bytes
        self.kv_budget_bytes = plan.kv_budget_bytes
        kv_dir = self._home.kv_dir / record.tag
        self.send(load_order(record, plan, kv_dir, self._planner.settings.kv))

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            log.info("worker.signalled", pid=self._process.pid, signal=number.name)
            self._process.signal(number)

    # --- what the worker says -------------------------------------------------------------------

    def _reaped(self, ended: WorkerExit) -> None:
        fault = describe_exit(ended.returncode, ended.sent, ended.stderr, epoch=ended.epoch)
        if self._process is not None and self._process.pid == ended.pid:
            self._process = None
            if self._link is not None:
                self._link.close()
                self._link = None
        self._host.worker_exited(ended, fault)
        jitter = random.random()  # noqa: S311 - spreads restarts, guards nothing
        self.feed(t.WorkerDied(epoch=ended.epoch, fault=fault, jitter=jitter))

    def _receive(  # noqa: C901 - one case a kind
        self, link: WorkerLink, epoch: Epoch, message: FromWorker
    ) -> None:
        if link is not self._link or epoch != self.state.epoch:
            return
        self.on_frame(message)
        match message:
            case WorkerHello():
                self._greet(epoch, message)
            case LoadProgress(bytes_done=done, bytes_total=total):
                self.feed(t.LoadAdvanced(epoch=epoch))
                self._host.load_advanced(self.state.model or "", done, total)
            case Loaded():
                self.feed(t.LoadEnded(epoch=epoch))
            case Failed():
                self._failed(epoch, message)
            case Warmed():
                self.feed(t.WarmEnded(epoch=epoch))
            case Unloaded():
                self._end_unload(epoch, message)
            case Checkpointed(swap=swap) if swap != QUIET_CHECKPOINT:
                self._spawn(self._end_checkpoint(message))
            case Beat():
                self.beat = message
            case Stopped():
                pass
            case _:
                if self._host.worker_said(message) and self.state.deaths:
                    self.feed(t.WorkAdvanced(epoch=epoch))

    def _greet(self, epoch: Epoch, hello: WorkerHello) -> None:
        if self._process is None or hello.token != self._process.secret:
            log.error("worker.hello_refused", epoch=epoch, pid=hello.pid)
            return
        self.working_set_bytes = hello.working_set_bytes
        self._planner.working_set_bytes = hello.working_set_bytes
        self.feed(t.Greeted(epoch=epoch))

    def _end_unload(self, epoch: Epoch, message: Unloaded) -> None:
        """Believed only when weak references, the allocator and the OS agree."""
        log.info("worker.unloaded", epoch=epoch, **msgspec.structs.asdict(message))
        fault = unload_fault(message, self.record)
        self.in_process_verified = fault is None
        self.record = None
        self.feed(t.UnloadEnded(epoch=epoch, fault=fault))

    def _reseat(self, epoch: Epoch, model: str) -> None:
        """The same process goes on under a new epoch; late frames of the old one are harmless."""
        if self._link is None or self._process is None:
            return
        self._link.send(Reseat(epoch=epoch))
        self._link.epoch = self._process.epoch = epoch
        self.beat = None
        log.info("worker.reseated", epoch=epoch, pid=self._process.pid, model=model)

    def _failed(self, epoch: Epoch, failed: Failed) -> None:
        fault = Fault(
            code=failed.code, message=failed.message, permanent=failed.permanent, facts=failed.facts
        )
        ended = t.LoadEnded if failed.during == "load" else t.WarmEnded
        self.feed(ended(epoch=epoch, fault=fault))

    async def _end_checkpoint(self, message: Checkpointed) -> None:
        """The stop comes after the commit: what the worker reported has to be in the catalogue."""
        error = await self._host.contexts_committed()
        self._figures.sessions = message.sessions
        self._figures.bytes_written = message.bytes_written
        fault = fault_of(error) if error is not None else None
        if message.failed:
            fault = Fault(
                code="disk_full",
                message=message.message or "contexts could not be written",
                facts={"sessions": list(message.failed)},
            )
        # Not the plan's number: a stop of the daemon takes over the swap it finds under way.
        if message.swap == self._checkpoint:
            self.feed(t.CheckpointEnded(fault=fault))

    async def close(self) -> None:
        """Ends a worker that still lives and waits until it is reaped."""
        if self._timer is not None:
            self._timer.cancel()
        if self._process is not None:
            self._process.signal(signal.SIGKILL)
            await self._process.wait()
        await self.standby.close()
        for task in tuple(self._tasks):
            task.cancel()
        self.lock.release()
        self.lock.close()

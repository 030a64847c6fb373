"""The runner of the seat table: performs its effects and feeds back what happens.

The only owner of the seat's state, the worker process and the link. Knows nothing of requests:
what concerns them goes out through `SeatHost`.
"""

import asyncio
import signal
import time
from collections import deque

import structlog

from hotseat.protocol import failpoints
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import Epoch
from hotseat.protocol.link_orders import Checkpoint, Reseat, Stop, Unload, Warm
from hotseat.protocol.link_reports import Checkpointed, Counted, FromWorker, WorkerHello
from hotseat.supervisor.loop.rhythm import Rhythm
from hotseat.supervisor.loop.tasks import TaskSet
from hotseat.supervisor.machine.locks import SeatLock
from hotseat.supervisor.machine.time_awake import AwakeClock
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.models.rules.residence import streamed_of
from hotseat.supervisor.ports.worker_link import WorkerLink
from hotseat.supervisor.seat.host import SeatHost, SeatNews, SwapFigures, fault_of
from hotseat.supervisor.seat.load_order import load_order
from hotseat.supervisor.seat.memory_gate import MemoryGate
from hotseat.supervisor.seat.preparation import Preparation
from hotseat.supervisor.seat.prompt_counter import PromptCounter
from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.states import SETTLED, Fault, Phase, SeatEvent
from hotseat.supervisor.seat.rules.table import next_state
from hotseat.supervisor.seat.rules.wired import WAIT_S
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.seat.standby import Seatable, Standby
from hotseat.supervisor.seat.worker_messages import WorkerMessages
from hotseat.supervisor.seat.worker_process import WorkerExit
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.values import Settings

log = structlog.get_logger()


class SeatRunner:
    """Owns the seat. Everything runs on the loop's thread."""

    def __init__(
        self,
        home: Home,
        seat: Seat,
        lock: SeatLock,
        planner: Planner,
        host: SeatHost,
        news: SeatNews,
        rhythm: Rhythm,
        settings: Settings,
    ) -> None:
        self.seat = seat
        self.awake = AwakeClock(time.monotonic())
        self._checkpoint = 0
        self._home = home
        self._deadlines = settings.deadlines
        self._planner = planner
        self._lock = lock
        self._host = host
        self._news = news
        enabled = settings.seat.standby == "on"
        self.standby = Standby(home, seat, lock, planner.own, rhythm, self, enabled=enabled)
        self._preparation = Preparation(planner, seat, self.standby, host)
        self.prompts = PromptCounter(seat, self.standby)
        self._messages = WorkerMessages(seat, host, news, planner, self)
        self._events: deque[SeatEvent] = deque()
        self._feeding = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks = TaskSet("seat.defect", _not_done)
        self._figures = SwapFigures()
        self._gate = MemoryGate(planner)

    def use(self, settings: Settings) -> None:
        """Takes new settings."""
        self._deadlines = settings.deadlines

    @property
    def in_process_verified(self) -> bool:
        """True when the last unload in place on this machine gave its memory back."""
        return self._messages.in_process_verified

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
        seat, before = self.seat, self.seat.state
        seat.state, effects = next_state(before, event, time.monotonic(), self._deadlines)
        if seat.state.phase is not before.phase:
            self._news.phase_changed(seat.state)
            if seat.state.phase in SETTLED:
                self.standby.start_soon()
            if seat.state.phase is Phase.STOPPING:
                self._gate.note_end(self._figures)
            if seat.state.phase is Phase.MEMORY_STRANDED:
                # Now, not when who waited looks again: the next swap may be under way by then.
                self._gate.strand()
        for effect in effects:
            self._perform(effect)

    def _arm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.seat.state.deadline is not None:
            delay_s = max(0.0, self.seat.state.deadline - time.monotonic())
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
        return () if self.seat.process is None else await self.seat.process.dump_stacks()

    def _perform(self, effect: t.SeatEffect) -> None:  # noqa: C901, PLR0912 - one case per effect
        if failpoints.ARMED:
            failpoints.reach(f"seat.does.{type(effect).__name__}")
        match effect:
            case t.StopAdmission():
                self._stop_admission()
            case t.ResumeAdmission():
                self._host.admission_changed()
            case t.SuspendRunning():
                self._host.suspend_running()
            case t.CancelRunning():
                self._host.cancel_running()
            case t.LoseRunning(fault):
                self._host.running_lost(fault)
            case t.SendCheckpoint(swap):
                self._checkpoint = swap
                self.seat.send(Checkpoint(swap=swap))
            case t.AskStop():
                if not self.seat.send(Stop()):
                    self._signal(signal.SIGTERM)
            case t.SendUnload():
                self.standby.hold_blank(0, 0)  # the next load is not the standby's
                self.seat.send(Unload())
            case t.SendReseat(epoch, model):
                self._reseat(Epoch(epoch), model)
            case t.DumpStacks():
                self._signal(signal.SIGUSR1)
            case t.SendTerm():
                self._signal(signal.SIGTERM)
            case t.SendKill():
                self._signal(signal.SIGKILL)
            case t.AwaitMemory(epoch, _, delay_s):
                self._tasks.spawn(self._await_memory(epoch, time.monotonic() + delay_s))
            case t.Spawn(epoch, model):
                self._tasks.spawn(self._start_worker(Epoch(epoch), model))
            case t.SendLoad(model):
                self._send_load(model)
            case t.SendWarm():
                self.seat.send(Warm())
            case t.SwapDone():
                self._end_swap(effect)
            case t.SwapFailed():
                self._news.swap_failed(effect)
            case t.ReleaseSeat():
                self.seat.record = None
                self._lock.release()
            case t.Exit():
                self._host.exit()

    # --- effects that take more ------------------------------------------------------------------

    def _stop_admission(self) -> None:
        """A drain begins; it may be over already. Meanwhile the standby reads ahead."""
        self._figures = self._gate.measure()
        plan = self.seat.state.plan
        if plan is not None and plan.target is not None:
            self._preparation.read_ahead(plan.target)
        self._host.admission_changed()

    def _end_swap(self, done: t.SwapDone) -> None:
        if done.plan.target is not None and done.came_from is not None:
            self.seat.seated_before.append(done.came_from)
        self._news.swap_done(done, self._figures)
        self._figures = SwapFigures()

    async def _start_worker(self, epoch: Epoch, model: str) -> None:
        """Takes the machine's seat, binds the link, starts the process."""
        try:
            record = self._planner.registry.get(model)
            self.seat.code.refuse_replaced()
            planned = self._planner.plan(record, returned_bytes=0, in_any_case=True)
            self._lock.acquire(model, planned.weights_bytes)
            is_outdated = self._planner.is_working_set_stale
            worker = await self.standby.take(epoch, is_outdated=is_outdated)
            from_standby = worker is not None
            if worker is None:
                worker = await self._start_fresh(epoch)
        except HotseatError as error:
            self.feed(t.StartRefused(epoch=epoch, fault=fault_of(error)))
            return
        seat = self.seat
        seat.link, seat.process, seat.beat = worker.link, worker.process, None
        log.info(
            "worker.started",
            epoch=epoch,
            pid=worker.process.pid,
            model=model,
            from_standby=from_standby,
        )
        if self.seat.state.epoch != epoch or self.seat.state.phase is not Phase.STARTING:
            worker.process.signal(signal.SIGKILL)  # the table gave up while it was starting
        elif worker.hello is not None:
            self._messages.greet(epoch, worker.hello)

    async def _start_fresh(self, epoch: Epoch) -> Seatable:
        try:
            return await self.standby.start_worker(epoch)
        except OSError as error:
            raise HotseatError("internal", f"no worker could be started: {error}") from error

    async def _await_memory(self, epoch: int, not_before: float) -> None:
        """The table's deadline ends the wait."""

        def target() -> tuple[bool, str | None]:
            state = self.seat.state
            waits = state.phase is Phase.RECLAIMING and state.epoch == epoch
            return waits, state.plan.target if state.plan else None

        # Half of the phase's time at most: what is wired never makes it overdue.
        wired_wait_s = min(WAIT_S, self._deadlines.reclaim_s / 2)
        if await self._gate.wait(target, self._figures, not_before, wired_wait_s):
            self._news.pages_judged(self._gate.strands)
            self.feed(t.Reclaimed(epoch=epoch))

    def _send_load(self, model: str) -> None:
        """Asks once more whether it fits: by now the process has said what it may have."""
        hello = None if self.seat.link is None else self.seat.link.hello
        limit = None if hello is None else hello.working_set_bytes
        try:
            record = self._planner.registry.get(model)
            self._planner.check_machine(record, limit)
            plan = self._planner.plan_to_load(record, limit)
        except HotseatError as error:
            self.feed(t.LoadEnded(epoch=self.seat.state.epoch, fault=fault_of(error)))
            return
        seat = self.seat
        seat.record, seat.limit_bytes = record, plan.limit_bytes
        seat.resident_bytes = plan.weights_bytes
        seat.streamed, seat.contexts = streamed_of(record, plan), plan.contexts
        self._planner.own.worker_pid, self._planner.own.loaded = seat.worker_pid, record
        seat.kv_budget_bytes = plan.kv_budget_bytes
        kv_dir = self._home.kv_dir / record.tag
        planner = self._planner
        settings, trial = planner.settings.kv, planner.trials.get(record.tag)
        order = load_order(record, plan, kv_dir, settings, planner.wiring, trial)
        self.seat.send(order)

    def _signal(self, number: signal.Signals) -> None:
        if self.seat.process is not None:
            log.info("worker.signalled", pid=self.seat.process.pid, signal=number.name)
            self.seat.process.signal(number)

    def _reseat(self, epoch: Epoch, model: str) -> None:
        """The same process goes on under a new epoch; late frames of the old one are harmless."""
        if self.seat.link is None or self.seat.process is None:
            return
        self.seat.link.send(Reseat(epoch=epoch))
        self.seat.link.epoch = self.seat.process.epoch = epoch
        self.seat.beat = None
        log.info("worker.reseated", epoch=epoch, pid=self.seat.process.pid, model=model)

    # --- what the worker and the standby say -----------------------------------------------------

    def worker_counted(self, answer: Counted) -> None:
        """Somebody waits for it."""
        self.prompts.take(answer)

    @property
    def awaits_first_token(self) -> bool:
        """The standby lets it have the processor."""
        return self._host.awaits_first_token

    def standby_greeted(self, hello: WorkerHello) -> None:
        """It is told what may be next, and tells what a process may have."""
        self._planner.learn_working_set(hello.working_set_bytes)
        self._preparation.prepare_likely()

    def receive(self, link: WorkerLink, epoch: Epoch, message: FromWorker) -> None:
        """Of the seated worker; late frames of others are dropped."""
        if link is self.seat.link and epoch == self.seat.state.epoch:
            self._messages.receive(epoch, message)

    def reaped(self, ended: WorkerExit) -> None:
        """A worker that was seated, or on its way to it, has ended."""
        if self.seat.state.phase is not Phase.STOPPING:
            self._gate.note_end(self._figures)  # before its footprint is forgotten
        self._messages.reaped(ended)

    def end_checkpoint(self, message: Checkpointed) -> None:
        """The worker has written what it could."""
        self._tasks.spawn(self._end_checkpoint(message))

    def note_unwired(self, seconds: float) -> None:
        """For the report of the swap."""
        self._figures.unwire_s = seconds

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
        if self.seat.process is not None:
            self.seat.process.signal(signal.SIGKILL)
            await self.seat.process.wait()
        await self.standby.close()
        self._tasks.cancel()
        self._lock.release()
        self._lock.close()


def _not_done(error: HotseatError) -> None:
    """The deadline of the phase gets the seat on its way again."""
    log.error("seat.task_failed", reason=error.message)

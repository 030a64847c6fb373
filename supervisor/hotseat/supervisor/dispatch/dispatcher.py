"""Enacts the scheduler: starts works, begins swaps, answers for those that cannot begin."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Literal

import structlog

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.replies import Cause, Done
from hotseat.supervisor.dispatch.asked_swaps import AskedSwaps, SwapMode, no_swap
from hotseat.supervisor.dispatch.releases import Releases
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.requests.running import WorkRuns
from hotseat.supervisor.requests.works import Work, Works, WorkState
from hotseat.supervisor.scheduling.model_queue import ModelQueue
from hotseat.supervisor.scheduling.scheduler import Decision, SeatView, decide
from hotseat.supervisor.scheduling.waiting import earliest
from hotseat.supervisor.seat.rules.states import SETTLED, Asked, Phase, SwapPlan
from hotseat.supervisor.seat.rules.table import quarantine_of
from hotseat.supervisor.seat.runner import SeatRunner
from hotseat.supervisor.settings.values import SchedulerSettings

log = structlog.get_logger()


class Dispatcher:
    """Looks at the queue whenever something changed (`kick`); one look at a time."""

    def __init__(
        self,
        *,
        works: Works,
        runs: WorkRuns,
        swaps: AskedSwaps,
        runner: SeatRunner,
        events: EventLog,
        check: Callable[[str], ModelRecord],
        settings: SchedulerSettings = SchedulerSettings(),  # noqa: B008 - frozen
    ) -> None:
        self._works = works
        self._runs = runs
        self._swaps = swaps
        self._runner = runner
        self._events = events
        self._check = check
        self.settings = settings
        self._queue = ModelQueue()
        self._handle: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.is_open = True
        self.releases = Releases()
        self.is_short_for: Callable[[int], bool] = lambda _running: False
        """True when memory allows no further request beside so many."""
        self.refuse_barred: Callable[[str], None] = lambda _model: None
        """Raises for a model that only a person may seat."""

    def kick(self) -> None:
        """Looks soon; many kicks before that are one look."""
        if self._handle is None and self.is_open:
            self._handle = asyncio.get_running_loop().call_soon(self._look)

    def close(self) -> None:
        """Nothing starts any more."""
        self.is_open = False
        for handle in (self._handle, self._timer):
            if handle is not None:
                handle.cancel()

    def _look(self) -> None:
        self._handle = None
        if not self.is_open:
            return
        try:
            self._decide()
        except Exception as error:  # task root
            log.exception("dispatch.defect")
            text = f"defect in hotseat ({type(error).__name__}); see the log"
            for work in self._works.in_state(WorkState.WAITING):
                self._runs.fail_soon(work, HotseatError("internal", text))

    def _decide(self) -> None:
        for work in self._works.in_state(WorkState.WAITING):
            if work.cancel_asked:  # while it was being accepted
                self._runs.cancel(work)
        if self._release():
            return
        now = time.monotonic()
        self._learn(now)
        self._end_overdue(now)
        seat = self._see_seat()
        waiting = self._works.startable()
        decision = decide(waiting, self._swaps.wanted, seat, now, self.settings, self._queue)
        self._queue = decision.queue
        self._works.foresight.queue_is(decision.queue)
        self._enact(decision)

    def _release(self) -> bool:
        """Begins a release that was asked for; True when there is nothing else to decide."""
        phase = self._runner.state.phase
        if not self.releases.is_asked or phase not in SETTLED:
            return False
        if phase is not Phase.READY:
            self.releases.nothing_seated()
            return False
        plan = self.releases.begin(self._swaps.next_number(), self._runner.state.model)
        if plan is not None:
            self._runner.feed(Asked(plan))
        return True

    @property
    def up_next(self) -> str | None:
        """The model that probably gets the seat next; None when nobody asks for another one."""
        return self._works.foresight.up_next

    def recycle(self, reason: str) -> None:
        """A fresh worker for the same model, if nothing runs or waits; contexts are kept."""
        state = self._runner.state
        busy = self._works.running or self._works.startable() or self._swaps.wanted
        if busy or state.phase is not Phase.READY or not self.is_open:
            return
        self._events.publish("worker.worn", model=state.model, reason=reason)
        self.seat_by_itself(state.model or "", "recycle")

    def seat_by_itself(self, model: str, why: str) -> None:
        """A swap that no client asked for; running work is drained or suspended, contexts kept."""
        if self._runner.state.phase not in SETTLED or not model or not self.is_open:
            return
        cause = Cause(client="hotseat", request_id=why, model_asked=model)
        number = self._swaps.next_number()
        plan = SwapPlan(swap=number, target=model, cause=cause, drain=self.settings.drain)
        self._runner.feed(Asked(plan))

    def wait_for_seat_s(self, model: str) -> float:
        """Roughly how long a new request for `model` would wait."""
        if self._runner.state.model == model and not self._works.running:
            return 0.0
        return self._works.foresight.wait_of_new_s(model, time.monotonic()) or 0.0

    def _see_seat(self) -> SeatView:
        state = self._runner.state
        seat = SeatView(
            model=state.model if state.phase is Phase.READY else None,
            settled=state.phase in SETTLED,
            seated_at=state.seated_at,
            running=self._works.running,
            swap_cost_s=self._works.foresight.swap_cost_s(state.model),
        )
        target = state.plan.target if state.plan is not None else None
        began = state.marks[0].at if state.marks else state.since
        return self._works.foresight.seat_is(seat, target, began, self.settings)

    def _learn(self, now: float) -> None:
        for work in self._works.take_ended():
            if isinstance(work.end, Done):
                self._works.foresight.ended(work.client, work.request, work.end, now)

    def _end_overdue(self, now: float) -> None:
        """A request that has shown something ends with it; one that never ran is refused."""
        for work in self._with_deadline():
            if work.deadline is None or work.deadline > now:
                continue
            if work.state is WorkState.WAITING and not work.emissions:
                text = f"not started within deadline_s {work.request.deadline_s}; allow more time"
                self._runs.fail_soon(work, HotseatError("deadline_exceeded", text))
            else:
                self._runs.cancel(work)

    def _with_deadline(self) -> list[Work]:
        alive = self._works.in_state(WorkState.WAITING, WorkState.STARTING, WorkState.RUNNING)
        return [work for work in alive if work.deadline is not None and not work.cancel_asked]

    def _enact(self, decision: Decision) -> None:
        running = self._works.running
        for place, key in enumerate(decision.admit):
            if self.is_short_for(running + place):
                break  # it is looked at again when the pressure changes
            self._runs.start(key)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = time.monotonic()
        deadlines = (work.deadline for work in self._with_deadline())
        held_s = self.releases.refuses(time.time())
        held_until = None if held_s is None else now + held_s
        ahead = (at for at in deadlines if at and at > now)
        wake_at = earliest(decision.wake_at, held_until, *ahead)
        if wake_at is not None:
            delay_s = max(0.0, wake_at - now)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.kick)
        if decision.swap_to is not None:
            self._begin_swap(decision.swap_to, decision.asked, decision.grace_s)

    def _begin_swap(self, model: str, asked: int | None, grace_s: float) -> None:
        """Validates before anything is drained: a bad target leaves the old model serving."""
        state = self._runner.state
        swap = self._swaps.by_number(asked) if asked is not None else None
        if swap is not None and state.phase is Phase.READY and state.model == model:
            self._spawn_end(self._swaps.end(swap, no_swap(model, swap.cause)))
            return
        if swap is not None:
            self.releases.end_hold()
        elif self.releases.refuses(time.time()) is not None:
            return  # those who wait said they would
        try:
            self._refuse_quarantined(model)
            if swap is None:
                self.refuse_barred(model)
            self._check(model)
        except HotseatError as error:
            if swap is not None:
                self._spawn_end(self._swaps.end(swap, error))
            else:
                self.fail_waiting(model, error)
            return
        cause = swap.cause if swap is not None else self._cause(model)
        number = asked if asked is not None else self._swaps.next_number()
        self._events.publish(
            "swap.started",
            swap=number,
            origin=state.model,
            target=model,
            client=cause.client,
            request=cause.request_id,
        )
        mode = self._mode(swap.message.mode if swap is not None else "auto")
        self._runner.feed(
            Asked(
                SwapPlan(
                    swap=number,
                    target=model,
                    cause=cause,
                    mode=mode,
                    drain=self.settings.drain,
                    grace_s=grace_s,
                )
            )
        )

    def _mode(self, asked: SwapMode) -> Literal["process", "in-process"]:
        """`auto`: by process from a standby; in place only where that was seen to work."""
        if asked != "auto":
            return asked
        if self._runner.standby.is_greeted or not self._runner.in_process_verified:
            return "process"
        return "in-process"

    def _refuse_quarantined(self, model: str) -> None:
        now = time.monotonic()
        misses = quarantine_of(self._runner.state, model, now)
        if misses is not None:
            left_s = misses.until - now
            raise HotseatError(
                "model_quarantined",
                f"{model} could not be kept seated ({misses.reason}); "
                f"tried again in {left_s:.0f} s",
                retry_after_s=round(left_s, 1),
                model=model,
                reason=misses.reason,
            )

    def _cause(self, model: str) -> Cause:
        """The request that waited longest for this model."""
        first = next(work for work in self._waiting(model) if work.request.swap == "auto")
        return first.cause

    def _waiting(self, model: str) -> list[Work]:
        return [w for w in self._works.in_state(WorkState.WAITING) if w.model == model]

    def fail_waiting(self, model: str, error: HotseatError) -> None:
        """Everybody who waits for this model gets the reason."""
        for work in self._waiting(model):
            self._runs.fail_soon(work, error)

    async def settle(self) -> None:
        """Returns when swaps that could not begin were answered."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn_end(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._then_kick(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _then_kick(self, job: Coroutine[Any, Any, None]) -> None:
        try:
            await job
        except HotseatError as error:
            log.warning("swap.end_not_stored", reason=error.message)
        self.kick()

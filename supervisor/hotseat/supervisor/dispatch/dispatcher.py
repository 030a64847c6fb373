"""Enacts the scheduler: starts works, begins swaps, answers for those that cannot begin."""

import asyncio
import time
from typing import Literal

import structlog

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import RequestKey
from hotseat.protocol.replies import Cause, Done
from hotseat.supervisor.dispatch.admission import Admission
from hotseat.supervisor.dispatch.asked_swaps import AskedSwap, AskedSwaps, SwapMode, no_swap
from hotseat.supervisor.dispatch.releases import Releases
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.loop.tasks import TaskSet, defect_of
from hotseat.supervisor.requests.running import WorkRuns
from hotseat.supervisor.requests.works import Works, WorkState
from hotseat.supervisor.scheduling.learned_costs import Costs
from hotseat.supervisor.scheduling.model_queue import ModelQueue
from hotseat.supervisor.scheduling.scheduler import (
    Decision,
    SeatView,
    decide,
    is_swap_moot,
)
from hotseat.supervisor.scheduling.waiting import earliest
from hotseat.supervisor.seat.rules.gpu_losses import gpu_refusal
from hotseat.supervisor.seat.rules.states import (
    SETTLED,
    Asked,
    Drained,
    Phase,
    SwapCancelled,
    SwapPlan,
)
from hotseat.supervisor.seat.rules.table import quarantine_of
from hotseat.supervisor.seat.runner import SeatRunner
from hotseat.supervisor.settings.values import Settings

log = structlog.get_logger()


class Dispatcher:
    """Looks at the queue whenever something changed (`Works.changed`); one look at a time."""

    def __init__(
        self,
        *,
        works: Works,
        runs: WorkRuns,
        swaps: AskedSwaps,
        runner: SeatRunner,
        events: EventLog,
        admission: Admission,
        releases: Releases,
        settings: Settings,
    ) -> None:
        self._works = works
        self._runs = runs
        self._swaps = swaps
        self._runner = runner
        self._seat = runner.seat
        self._events = events
        self._admission = admission
        self._releases = releases
        self._settings = settings.scheduler
        self._queue = ModelQueue()
        self._for_requests: int | None = None
        """Number of the last swap that waiting requests made happen."""
        self._timer: asyncio.TimerHandle | None = None
        self._tasks = TaskSet("dispatch.defect", _not_refused)
        self._refusing: set[str] = set()
        self._is_open = True

    def use(self, settings: Settings) -> None:
        """Takes new settings, by which something else may be decided."""
        self._settings = settings.scheduler
        self._works.changed.set()

    def close(self) -> None:
        """Nothing starts any more; a drain still ends."""
        self._is_open = False
        if self._timer is not None:
            self._timer.cancel()

    async def run(self) -> None:
        """Looks until it is cancelled; many changes before a look are one look."""
        while True:
            await self._works.changed.wait()
            self._works.changed.clear()
            self._look()

    def _look(self) -> None:
        try:
            self._take_back_moot_swap()
            self._end_drain()
            self._learn(time.monotonic())
        except Exception:  # task root: nobody waits for this
            log.exception("dispatch.defect")
        try:
            if self._is_open:
                self._decide()
        except Exception as error:  # task root
            log.exception("dispatch.defect")
            for work in self._works.in_state(WorkState.WAITING):
                self._runs.fail_soon(work, defect_of(error))

    def _end_drain(self) -> None:
        """The end of the last request ends a drain."""
        if self._seat.state.phase is Phase.DRAINING and self._works.running == 0:
            self._runner.feed(Drained())

    def _take_back_moot_swap(self) -> None:
        """Requests that made a swap happen may all be gone before the old worker has to stop."""
        plan = self._seat.state.plan
        if plan is None or plan.target is None or plan.swap != self._for_requests:
            return
        coming = self._works.in_state(WorkState.ACCEPTING, WorkState.WAITING)
        waiting = [work.as_waiting for work in coming if not work.cancel_asked]
        if is_swap_moot(plan.target, waiting, self._swaps.wanted, time.monotonic()):
            self._runner.feed(SwapCancelled(swap=plan.swap))

    def _decide(self) -> None:
        for work in self._works.in_state(WorkState.WAITING):
            if work.cancel_asked:  # while it was being accepted
                self._runs.cancel(work)
        if self._release():
            return
        now = time.monotonic()
        waiting = self._works.startable()
        decision = decide(
            waiting,
            self._swaps.wanted,
            self._see_seat(),
            now,
            self._settings,
            self._queue,
            self._works.not_startable(waiting),
        )
        self._queue = decision.queue
        self._works.forecaster.queue_is(decision.queue)
        self._enact(decision)

    def _release(self) -> bool:
        """Begins a release that was asked for; True when there is nothing else to decide."""
        phase = self._seat.state.phase
        if not self._releases.is_asked or phase not in SETTLED:
            return False
        if phase is not Phase.READY:
            self._releases.nothing_seated()
            return False
        plan = self._releases.begin(self._swaps.next_number(), self._seat.state.model)
        if plan is not None:
            self._runner.feed(Asked(plan))
        return True

    def recycle(self, reason: str) -> None:
        """A fresh worker for the same model, if nothing runs or waits; contexts are kept."""
        state = self._seat.state
        busy = self._works.running or self._works.startable() or self._swaps.wanted
        if busy or state.phase is not Phase.READY or not self._is_open:
            return
        self._events.publish("worker.worn", model=state.model, reason=reason)
        self.seat_by_itself(state.model or "", "recycle")

    def seat_by_itself(self, model: str, why: str) -> None:
        """A swap that no client asked for; running work is drained or suspended, contexts kept."""
        if self._seat.state.phase not in SETTLED or not model or not self._is_open:
            return
        if self._seat.code.is_replaced:
            return  # it could not be seated again
        cause = Cause(client="hotseat", request_id=why, model_asked=model)
        number = self._swaps.next_number()
        plan = SwapPlan(swap=number, target=model, cause=cause, drain=self._settings.drain)
        self._runner.feed(Asked(plan))

    @property
    def costs(self) -> Costs:
        """What swaps and turns were measured to cost, as the scheduler reckons."""
        return self._works.forecaster.costs

    def wait_for_seat_s(self, model: str) -> float:
        """Roughly how long a new request for `model` would wait."""
        if self._seat.state.model == model and not self._works.running:
            return 0.0
        return self._works.forecaster.wait_of_new_s(model, time.monotonic()) or 0.0

    def _see_seat(self) -> SeatView:
        state = self._seat.state
        seat = SeatView(
            model=self._seat.seated,
            settled=state.phase in SETTLED,
            seated_at=state.seated_at,
            running=self._works.running,
            swap_cost_s=self._works.forecaster.swap_cost_s(state.model),
            is_slow=self._admission.is_seat_slow and self._all_go_on(state.model),
        )
        target = state.plan.target if state.plan is not None else None
        began = state.marks[0].at if state.marks else state.since
        return self._works.forecaster.seat_is(seat, target, began, self._settings)

    def _all_go_on(self, model: str | None) -> bool:
        """False if a request would begin anew after a swap, since its context stays off the disk.

        One like that would never end if its model left the seat after a few tokens each time.
        """
        ours = self._works.in_state(WorkState.WAITING, WorkState.STARTING, WorkState.RUNNING)
        return all(work.persist for work in ours if work.model == model)

    def _learn(self, now: float) -> None:
        for work in self._works.take_ended():
            if isinstance(work.end, Done):
                self._works.forecaster.ended(work.client, work.request, work.end, now)

    def _enact(self, decision: Decision) -> None:
        for key in decision.expire:
            self._expire(key)
        running = self._works.running
        for place, key in enumerate(decision.admit):
            if self._admission.is_short_for(running + place):
                break  # it is looked at again when the pressure changes
            self._runs.start(key)
        self._wake_at(decision.wake_at)
        if decision.swap_to is not None:
            self._begin_swap(decision.swap_to, decision)

    def _expire(self, key: str) -> None:
        """A request that has shown something ends with it; one that never ran is refused."""
        work = self._works.get(RequestKey(key))
        if work is None or work.cancel_asked:
            return
        if work.state is WorkState.WAITING and not work.emissions:
            text = f"not started within deadline_s {work.request.deadline_s}; allow more time"
            self._runs.fail_soon(work, HotseatError("deadline_exceeded", text))
        else:
            self._runs.cancel(work)

    def _wake_at(self, decided: float | None) -> None:
        """Looks again when time alone changes what is decided."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = time.monotonic()
        held_s = self._releases.refuses(time.time())
        wake_at = earliest(decided, None if held_s is None else now + held_s)
        if wake_at is not None:
            delay_s = max(0.0, wake_at - now)
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(delay_s, self._works.changed.set)

    def _begin_swap(self, model: str, decision: Decision) -> None:
        """Validates before anything is drained: a bad target leaves the old model serving."""
        state, asked = self._seat.state, decision.asked
        swap = self._swaps.by_number(asked) if asked is not None else None
        if swap is not None and self._seat.seated == model:
            self._swaps.end(swap, no_swap(model, swap.cause))
            return
        if swap is not None:
            self._releases.end_hold()
        elif self._releases.refuses(time.time()) is not None:
            return  # those who wait said they would
        if model in self._refusing or (swap is None and self._waits_for_restart(model)):
            return
        try:
            self._refuse_quarantined(model)
            if swap is None:
                self._admission.refuse_barred(model)
            self._admission.begin(model, force=swap is not None and swap.message.force)
        except HotseatError as error:
            self._refusing.add(model)
            self._tasks.spawn(self._refuse(model, swap, error))
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
        plan = SwapPlan(
            swap=number,
            target=model,
            cause=cause,
            mode=self._mode(swap.message.mode if swap is not None else "auto"),
            drain=decision.drain,
            grace_s=decision.grace_s,
        )
        self._for_requests = number if swap is None else None
        self._runner.feed(Asked(plan))

    def _waits_for_restart(self, model: str) -> bool:
        """Only requests that began want it, and the next daemon is who goes on with them."""
        waiting = [w for w in self._works.in_state(WorkState.WAITING) if w.model == model]
        return all(work.outlives_daemon for work in waiting) and self._seat.code.is_replaced

    async def _refuse(self, model: str, swap: AskedSwap | None, error: HotseatError) -> None:
        """Whoever wants this model is told why it cannot be; nobody begins it meanwhile."""
        try:
            error = await self._admission.explained(error)
        finally:
            self._refusing.discard(model)
            if swap is not None:
                self._swaps.end(swap, error)
            else:
                self._runs.fail_waiting(model, error)
            self._works.changed.set()

    def cancel_swap(self, swap: AskedSwap) -> bool:
        """Takes an asked-for swap back; False when it is too late for that."""
        if swap.end is not None:
            return False
        plan = self._seat.state.plan
        if plan is not None and plan.swap == swap.number:
            self._runner.feed(SwapCancelled(swap=swap.number))
            now_plan = self._seat.state.plan
            return now_plan is None or now_plan.swap != swap.number
        self._swaps.end(swap, HotseatError("interrupted", "the swap was cancelled before it began"))
        return True

    def _mode(self, asked: SwapMode) -> Literal["process", "in-process"]:
        """`auto`: by process from a standby; in place only where that was seen to work."""
        if asked != "auto":
            return asked
        if self._runner.standby.is_greeted or not self._runner.in_process_verified:
            return "process"
        return "in-process"

    def _refuse_quarantined(self, model: str) -> None:
        """Raises the typed refusal of a model, or of any while the GPU fails under all of them."""
        now = time.monotonic()
        broken = gpu_refusal(self._seat.state.gpu, now)
        if broken is not None:
            left_s = round(self._seat.state.gpu.until - now, 1)
            raise HotseatError(broken.code, broken.message, retry_after_s=left_s, **broken.facts)
        misses = quarantine_of(self._seat.state, model, now)
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
        waiting = self._works.in_state(WorkState.WAITING)
        return next(w.cause for w in waiting if w.model == model and w.request.swap == "auto")


def _not_refused(error: HotseatError) -> None:
    log.error("dispatch.not_refused", reason=error.message)

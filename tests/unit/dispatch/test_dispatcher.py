"""What the scheduler decides is what happens: ends, starts, swaps and their drains."""

import asyncio
import time
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.link_reports import Emitted
from hotseat.protocol.messages import Generate
from hotseat.protocol.replies import Done, Timing, Usage
from hotseat.supervisor.dispatch.dispatcher import Dispatcher
from hotseat.supervisor.dispatch.releases import Releases
from hotseat.supervisor.requests.works import Works, WorkState
from hotseat.supervisor.scheduling.scheduler import WantedSwap
from hotseat.supervisor.seat.rules.states import (
    Asked,
    Drained,
    Phase,
    SeatState,
    SwapCancelled,
)
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.settings.values import SchedulingSettings, Settings


class Runs:
    """Notes what it is told about works, by request id."""

    def __init__(self):
        self.started, self.refused, self.cancelled = [], {}, []

    def start(self, key):
        self.started.append(key)

    def fail_soon(self, work, error):
        self.refused[work.request_id] = error.code

    def fail_waiting(self, model, error):
        self.refused[model] = error.code

    def cancel(self, work):
        self.cancelled.append(work.request_id)


class Desk:
    """A dispatcher beside a seat on which "a" was seated long ago."""

    def __init__(self, *, is_slow=False, **scheduling):
        self.works, self.runs, self.seat, self.fed = Works(), Runs(), Seat(), []
        self.begun, self.refusal, self.explains = [], None, asyncio.Event()
        self.seat.state = SeatState(phase=Phase.READY, model="a", epoch=1, seated_at=-1e6)
        standby = SimpleNamespace(is_greeted=True)
        self.dispatcher = Dispatcher(
            works=self.works,
            runs=self.runs,
            swaps=SimpleNamespace(wanted=[], next_number=lambda: 7),
            runner=SimpleNamespace(seat=self.seat, feed=self.fed.append, standby=standby),
            events=SimpleNamespace(publish=lambda *_, **__: None),
            admission=SimpleNamespace(
                is_seat_slow=is_slow,
                is_short_for=lambda _running: False,
                refuse_barred=lambda _model: None,
                begin=self._begin,
                explained=self._explained,
            ),
            releases=Releases(),
            settings=Settings(scheduling=SchedulingSettings(**scheduling)),
        )

    def _begin(self, name, *, force):
        self.begun.append((name, force))
        if self.refusal is not None:
            raise self.refusal

    async def _explained(self, error):
        await self.explains.wait()
        return error

    def work(self, name, *, model="a", state=WorkState.WAITING, **fields):
        made = self.works.create(name, name, "c", Generate(model=model, prompt="x", **fields))
        made.state, made.accepted_at = state, time.monotonic() - 10.0
        return made

    async def look(self):
        """One look of the running dispatcher."""
        running = asyncio.create_task(self.dispatcher.run())
        self.works.changed.set()
        while self.works.changed.is_set():  # noqa: ASYNC110 - cleared when it looks
            await asyncio.sleep(0)  # one turn of the loop
        self.dispatcher.close()
        running.cancel()


@pytest.fixture
def desk():
    return Desk()


async def test_overdue_request_that_showed_nothing_is_refused(desk):
    desk.work("late", deadline_s=5.0)
    await desk.look()
    assert desk.runs.refused == {"late": "deadline_exceeded"}
    assert desk.runs.started == []


async def test_overdue_request_behind_one_of_its_session_is_refused_too(desk):
    desk.work("first", session="s")
    desk.work("second", session="s", deadline_s=5.0)
    await desk.look()
    assert desk.runs.started == ["first"]
    assert desk.runs.refused == {"second": "deadline_exceeded"}


async def test_overdue_request_that_runs_ends_with_what_it_has_shown(desk):
    work = desk.work("running", state=WorkState.RUNNING, deadline_s=5.0)
    work.add_emission(Emitted(request=work.key, tokens=(1,), text="x"))
    await desk.look()
    assert desk.runs.cancelled == ["running"]
    assert desk.runs.refused == {}


async def test_deadline_ahead_wakes_the_dispatcher_by_itself(desk):
    work = desk.work("soon", state=WorkState.RUNNING, deadline_s=10.2)
    running = asyncio.create_task(desk.dispatcher.run())
    desk.works.changed.set()
    async with asyncio.timeout(10):
        while not desk.runs.cancelled:  # noqa: ASYNC110 - nobody tells a stub's list
            await asyncio.sleep(0.01)  # between two looks at the list
    running.cancel()
    assert time.monotonic() >= work.deadline


@pytest.mark.parametrize("drain", ["finish", "suspend", "cancel"])
async def test_swap_drains_as_the_scheduler_decided(drain):
    desk = Desk(drain=drain)
    desk.work("other", model="b")
    await desk.look()
    (asked,) = desk.fed
    assert isinstance(asked, Asked)
    assert (asked.plan.target, asked.plan.drain) == ("b", drain)


async def begin_swap(desk):
    """For the request "other"; the plan as the seat has it then."""
    work = desk.work("other", model="b")
    await desk.look()
    (asked,) = desk.fed
    desk.fed.clear()
    state = SeatState(phase=Phase.DRAINING, model="a", epoch=1, plan=asked.plan)
    desk.seat.state = state
    desk.work("runs on", state=WorkState.RUNNING)
    return work


@pytest.mark.parametrize("phase", [Phase.DRAINING, Phase.CHECKPOINTING])
async def test_swap_whose_request_is_gone_is_taken_back(desk, phase):
    work = await begin_swap(desk)
    desk.seat.state = replace(desk.seat.state, phase=phase)
    desk.works.mark_ended(work)
    await desk.look()
    assert desk.fed == [SwapCancelled(desk.seat.state.plan.swap)]


async def test_last_request_of_a_swap_that_is_gone_does_not_end_its_drain(desk):
    work = await begin_swap(desk)
    for one in desk.works.in_state(WorkState.RUNNING):
        desk.works.mark_ended(one)
    desk.works.mark_ended(work)
    await desk.look()
    assert desk.fed[0] == SwapCancelled(desk.seat.state.plan.swap)


@pytest.mark.parametrize("state", [WorkState.WAITING, WorkState.ACCEPTING])
async def test_swap_that_another_request_wants_too_goes_on(desk, state):
    work = await begin_swap(desk)
    desk.work("another", model="b", swap="wait", state=state)
    desk.works.mark_ended(work)
    await desk.look()
    assert desk.fed == []


async def test_swap_that_a_client_asked_for_outlives_the_requests(desk):
    work = await begin_swap(desk)
    plan = replace(desk.seat.state.plan, swap=99)
    desk.seat.state = replace(desk.seat.state, plan=plan)
    desk.works.mark_ended(work)
    await desk.look()
    assert desk.fed == []


async def test_swap_that_requests_began_stays_for_a_client_who_asks_for_it_now(desk):
    work = await begin_swap(desk)
    desk.dispatcher._swaps.wanted.append(WantedSwap(swap=8, model="b"))
    desk.works.mark_ended(work)
    await desk.look()


async def test_refusal_waits_for_its_names_and_nobody_begins_that_swap_meanwhile(desk):
    desk.refusal = HotseatError("memory_pressure", "short", needed_bytes=1)
    desk.work("other", model="b")
    await desk.look()
    await desk.look()
    assert desk.begun == [("b", False)], "begun once more before it was refused"
    assert desk.runs.refused == {}
    desk.explains.set()
    while not desk.runs.refused:  # noqa: ASYNC110 - set by the task that was let go on
        await asyncio.sleep(0)  # a turn of the loop
    assert desk.runs.refused == {"b": "memory_pressure"}
    assert desk.fed == []


async def test_last_request_that_ends_ends_the_drain_after_the_dispatcher_closed(desk):
    desk.seat.state = SeatState(phase=Phase.DRAINING, model="a", epoch=1)
    work = desk.work("last", state=WorkState.RUNNING)
    desk.dispatcher.close()
    desk.works.mark_ended(work)
    await desk.look()
    assert desk.fed == [Drained()]


async def test_turn_that_ends_while_the_daemon_stops_is_learnt(desk):
    work = desk.work("last", state=WorkState.RUNNING)
    timing = Timing(total_s=4.0)
    work.end = Done(
        model="a", text="", tokens=(), finish_reason="stop", usage=Usage(), timing=timing
    )
    desk.dispatcher.close()
    desk.works.mark_ended(work)
    await desk.look()
    assert desk.works.forecaster.costs.of("a").turn_s == 4.0


async def test_new_settings_are_decided_by_at_once(desk):
    desk.dispatcher.use(Settings())
    assert desk.works.changed.is_set()


@pytest.mark.parametrize("persists", [True, False])
async def test_slow_model_leaves_its_answer_only_if_that_goes_on_later(persists):
    """One that begins anew after each swap would never end."""
    desk = Desk(is_slow=True)
    desk.work("slow", state=WorkState.RUNNING).persist = persists
    desk.work("other", model="b").persist = False
    assert desk.dispatcher._see_seat().is_slow is persists

"""The end of a daemon: what is told to whom when it was asked to stop, and when it is over."""

import asyncio

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Cause
from hotseat.supervisor.dispatch.asked_swaps import AskedSwaps
from hotseat.supervisor.dispatch.dispatcher import Dispatcher
from hotseat.supervisor.dispatch.releases import Releases
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.loop.tasks import TaskSet
from hotseat.supervisor.requests.running import WorkRuns
from hotseat.supervisor.requests.works import Works, WorkState
from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.runner import SeatRunner


class Life:
    """One run: it goes on until `stop`, and ends when the seat is empty and everybody knows."""

    def __init__(
        self,
        works: Works,
        runs: WorkRuns,
        runner: SeatRunner,
        dispatcher: Dispatcher,
        swaps: AskedSwaps,
        releases: Releases,
        events: EventLog,
        emptied: asyncio.Event,
    ) -> None:
        """`emptied` is set when the seat was given up for good."""
        self._works = works
        self._runs = runs
        self._runner = runner
        self._dispatcher = dispatcher
        self._swaps = swaps
        self._releases = releases
        self._events = events
        self._emptied = emptied
        self._told = asyncio.Event()
        self._tasks = TaskSet("daemon.defect", self._not_told)
        self.is_stopping = False

    def stop(self) -> None:
        """Drain, checkpoint, stop the worker, end. A second call changes nothing."""
        if self.is_stopping:
            return
        self.is_stopping = True
        self._dispatcher.close()
        self._events.publish("daemon.stopping")
        self._tasks.spawn(self._stop())

    async def _stop(self) -> None:
        error = shutting_down()
        cause = Cause(client="hotseat", request_id="shutdown", model_asked="")
        number = self._swaps.next_number()
        plan = t.SwapPlan(swap=number, target=None, cause=cause, exits=True)
        try:
            self.refuse_waiting()
            self._runner.feed(t.ExitAsked(plan))
            self._releases.end_all(error)
            await self._swaps.end_all(error)
        finally:
            self._told.set()

    def _not_told(self, _error: HotseatError) -> None:
        """The daemon ends all the same: after the seat if that is on its way, else at once."""
        plan = self._runner.seat.state.plan
        if plan is None or not plan.exits:
            self._emptied.set()

    def refuse_waiting(self) -> None:
        """Who waits is told so; requests that began go on under the next daemon."""
        for work in self._works.in_state(WorkState.WAITING):
            if not work.outlives_daemon:
                self._runs.fail_soon(work, shutting_down())

    def refuse_when_stopping(self) -> None:
        """Raises `HotseatError` (shutting_down) for what would begin now."""
        if self.is_stopping:
            raise shutting_down()

    async def over(self) -> None:
        """Returns when the seat is empty after a stop was asked for, and everybody knows."""
        await self._emptied.wait()
        await self._told.wait()


def shutting_down() -> HotseatError:
    """What is answered while the daemon stops."""
    return HotseatError("shutting_down", "the daemon is stopping; ask again when it is back")

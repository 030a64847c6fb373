"""Watches whether the worker lives and gets on; a stuck one is made to say where, then reported.

Decides nothing itself: `rules/stalls.py` says when it is stuck, the seat table what follows.
"""

import sys
import time
from typing import Final

import structlog

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link_reports import TRYING
from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.guards.rules.stalls import Clocks, DueWork, Signs, Stall, look, stalled
from hotseat.supervisor.loop.tasks import TaskSet
from hotseat.supervisor.requests.works import Work, Works, WorkState
from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.states import SEATING, Fault, Phase
from hotseat.supervisor.seat.runner import SeatRunner
from hotseat.supervisor.settings.values import Settings

_WATCHED: Final = frozenset(
    {Phase.LOADING, Phase.WARMING, Phase.READY, Phase.DRAINING, Phase.CHECKPOINTING}
)
"""Starting has no beats yet, and an end that is under way has a ladder of its own."""
_STACK_LINES: Final = 60
log = structlog.get_logger()


class StallWatch:
    """Looks several times a second (`tick`); one stall of a worker is reported once."""

    def __init__(
        self,
        runner: SeatRunner,
        works: Works,
        events: EventLog,
        figures: Figures,
        settings: Settings,
    ) -> None:
        self._runner = runner
        self._seat = runner.seat
        self._works = works
        self._events = events
        self._figures = figures
        self._settings = settings.stalls
        self._clocks = Clocks(at=time.monotonic())
        self._is_reporting = False
        self._tasks = TaskSet("guard.defect", self._not_reported)

    def use(self, settings: Settings) -> None:
        """Takes new settings."""
        self._settings = settings.stalls

    def tick(self, now: float) -> None:
        """Compares what was heard with what was due."""
        self._runner.note_sleep(now)
        state = self._seat.state
        if state.phase not in _WATCHED or self._seat.worker_pid is None:
            self._clocks = Clocks(at=now)
            return
        self._clocks = look(self._clocks, self._signs(), now)
        stall = stalled(self._clocks, self._settings, sys.platform)
        if stall is not None and not self._is_reporting:
            self._is_reporting = True
            self._tasks.spawn(self._report(stall, state.epoch))

    def _not_reported(self, error: HotseatError) -> None:
        self._is_reporting = False
        log.error("worker.stall_not_reported", reason=error.message)

    def _signs(self) -> Signs:
        beat = self._seat.beat
        steps = (beat.step, beat.backlog_bytes) if beat is not None else ()
        # The epoch of a worker that was seated anew in place differs too: its clocks start again.
        return Signs(
            epoch=self._seat.state.epoch,
            heard=self._seat.heard,
            progress=(self._seat.said, *steps),
            expected=self._expected(beat.backlog_bytes if beat is not None else 0),
            os_level=self._figures.pressure,
        )

    def _expected(self, backlog_bytes: int) -> tuple[DueWork, ...]:
        record = self._seat.record
        match self._seat.state.phase:
            case Phase.LOADING:
                return (DueWork(task="load", amount=self._seat.load.next_bytes),)
            case Phase.WARMING:
                return (DueWork(task="warm", amount=record.weights_bytes if record else 0),)
            case Phase.CHECKPOINTING:
                return (DueWork(task="write", amount=backlog_bytes + self._live_bytes()),)
            case _:
                works = self._works.in_state(WorkState.RUNNING)
                due = [self._due(work) for work in works if work.finished is None]
                if due and backlog_bytes:
                    due.append(DueWork(task="write", amount=backlog_bytes))
                if due and record and self._seat.beat and self._seat.beat.phase == TRYING:
                    # Inside of a step, whatever that is for; each pass may read all weights.
                    due.append(DueWork(task="try", amount=record.weights_bytes))
                return tuple(due)

    def _live_bytes(self) -> int:
        beat = self._seat.beat
        return beat.live_kv_bytes if beat is not None else 0

    def _due(self, work: Work) -> DueWork:
        record = self._seat.record
        whole = record.weights_bytes if record is not None else 0
        # One step may need all that is not in memory, and what passes through again.
        reads = whole if self._seat.resident_bytes < whole else 0
        tokens = max(_held_tokens(work), work.reached_tokens)
        context = record.kv_bytes(tokens) if record is not None else 0
        if 2 * context > (self._seat.kv_budget_bytes or 0):
            reads += context  # it may be read with every step, too
        if work.phase == "decode":
            return DueWork(task="decode", reads_bytes=reads)
        if work.phase == "prefill":
            chunk = record.prefill_chunk if record is not None else BLOCK_TOKENS
            return DueWork(task="prefill", amount=chunk, reads_bytes=reads)
        return DueWork(task="restore", amount=context)

    async def _report(self, stall: Stall, epoch: int) -> None:
        """First the truth to everybody who looks, then the stacks, then the table."""
        phase = self._seat.state.phase
        self._events.publish(
            "worker.stalled",
            epoch=epoch,
            phase=phase.value,
            task=stall.task,
            kind=stall.kind,
            waited_s=round(stall.waited_s, 3),
            budget_s=round(stall.budget_s, 3),
        )
        stacks = await self._runner.dump_stacks()
        log.warning("worker.stacks_kept", epoch=epoch, stacks=list(stacks))
        code = "model_unavailable" if phase in SEATING else "worker_lost"
        facts = {
            "task": stall.task,
            "kind": stall.kind,
            "waited_s": round(stall.waited_s, 3),
            "budget_s": round(stall.budget_s, 3),
            "stacks": list(stacks[-_STACK_LINES:]),
        }
        fault = Fault(code=code, message=stall.text, facts=facts)
        was_idle = self._runner.standby.is_untried(self._seat.worker_pid)
        self._runner.feed(t.Stalled(epoch=epoch, fault=fault, was_idle=was_idle))
        self._is_reporting = False
        self._clocks = Clocks(at=time.monotonic())


def _held_tokens(work: Work) -> int:
    """What the session's context had when the request came."""
    return len(work.intake.context) // 4 if work.intake is not None else 0

"""Takes one sample of machine and daemon. Runs on the sampler's thread.

Touches nothing of the loop but frozen structs and single attributes, and copies what the loop may
change meanwhile before it looks at it.
"""

from msgspec import Struct

from hotseat.protocol.telemetry import Sample
from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.machine.paging import Paging, system_paging
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.requests.works import Works, WorkState
from hotseat.supervisor.seat.rules.states import SETTLED, Phase
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.telemetry.rules.memory_classes import Holdings, memory_classes

_ALIVE = frozenset({WorkState.WAITING, WorkState.STARTING, WorkState.RUNNING})


class Counters(Struct, frozen=True, kw_only=True):
    """Counters that only grow, at the sample before."""

    at: float
    paging: Paging
    written: int
    tokens: dict[int, int]


class SampleTaker:
    """Knows what was counted before, so that a sample tells what was added."""

    def __init__(
        self, planner: Planner, seat: Seat, works: Works, keeper: KvKeeper, figures: Figures
    ) -> None:
        self._planner = planner
        self._seat = seat
        self._works = works
        self._keeper = keeper
        self._figures = figures
        self._paging = system_paging()
        self._before: Counters | None = None

    def is_working(self) -> bool:
        """True while a request waits or runs, or the seat changes hands."""
        if self._seat.state.phase not in SETTLED:
            return True
        return any(work.state in _ALIVE for work in self._works)

    def take(self, now: float) -> Sample:
        """The moment `now` (Unix time)."""
        seat, state, beat = self._seat, self._seat.state, self._seat.beat
        works = [work for work in self._works if work.state in _ALIVE]
        waiting = [work for work in works if work.state is WorkState.WAITING]
        counted, before = self._count(now), self._before
        self._before = counted
        before = before or counted
        pid = seat.worker_pid
        footprint = self._planner.probe.quick_footprint(pid) if pid is not None else None
        machine = self._planner.probe.machine()
        memory = memory_classes(
            Holdings(
                total=machine.total_bytes,
                available=machine.available_bytes,
                worker=footprint or 0,
                active=beat.active_bytes if beat else 0,
                live_kv=beat.live_kv_bytes if beat else 0,
                model_bytes=seat.resident_bytes if seat.record else 0,
                standby=self._planner.own.standby_bytes,
            )
        )
        live = len(beat.live_sessions) if beat else 0
        return Sample(
            at=now,
            phase=state.phase.value,
            epoch=state.epoch,
            model=state.model,
            swap_to=state.plan.target if state.plan else None,
            load_percent=self._figures.load_percent if state.phase is Phase.LOADING else None,
            total_bytes=machine.total_bytes,
            weights_bytes=memory.weights,
            live_kv_bytes=memory.live_kv,
            runtime_bytes=memory.runtime,
            standby_bytes=memory.standby,
            other_bytes=memory.other,
            free_bytes=memory.free,
            cold_kv_bytes=self._figures.kv_disk_bytes,
            os_swapped_in_bytes=counted.paging.swapped_in - before.paging.swapped_in,
            os_swapped_out_bytes=counted.paging.swapped_out - before.paging.swapped_out,
            offloaded_bytes=counted.written - before.written,
            pressure=self._figures.pressure,
            footprint_bytes=footprint,
            active_bytes=beat.active_bytes if beat else None,
            cache_bytes=beat.cache_bytes if beat else None,
            peak_bytes=beat.peak_bytes if beat else None,
            running=len(works) - len(waiting),
            waiting=len(waiting),
            suspended=sum(work.is_suspended for work in waiting),
            sessions_live=live,
            sessions_cold=max(0, self._figures.sessions_total - live),
            tokens_per_s=_rate(before, counted),
            pages=machine.pages,
            gpu_errors=self._figures.gpu_errors,
        )

    def _count(self, now: float) -> Counters:
        return Counters(
            at=now,
            paging=self._paging(),
            written=self._keeper.bytes_written,
            tokens={work.order: work.completion_tokens for work in self._works},
        )


def _rate(before: Counters, now: Counters) -> float:
    """Tokens a second. Requests are kept for a while after their end, so none is missed."""
    added = sum(max(0, count - before.tokens.get(order, 0)) for order, count in now.tokens.items())
    passed_s = now.at - before.at
    return round(added / passed_s, 2) if passed_s > 0 else 0.0

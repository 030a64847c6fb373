"""What looks by itself once the daemon lives: guards, samples, KV on disk, upkeep."""

import time
from collections.abc import Callable

from msgspec import Struct

from hotseat.supervisor.daemon.assembly.dispatch import Dispatch
from hotseat.supervisor.daemon.assembly.ground import Ground
from hotseat.supervisor.daemon.assembly.requests import Requests
from hotseat.supervisor.daemon.kept_figures import KeptFigures
from hotseat.supervisor.daemon.measuring import Measuring
from hotseat.supervisor.daemon.upkeep import Housekeeping, Upkeep
from hotseat.supervisor.guards.guard import Guard, Watches
from hotseat.supervisor.guards.memory_pressure import PressureWatch
from hotseat.supervisor.guards.sleep_prevention import PowerWatch
from hotseat.supervisor.guards.stuck_worker import StallWatch
from hotseat.supervisor.guards.wake import WakeWatch
from hotseat.supervisor.kv.disk_tier import DiskTier
from hotseat.supervisor.machine.sleep_assertion import system_power
from hotseat.supervisor.machine.time_awake import whole_time
from hotseat.supervisor.requests.kv_in_use import KvInUse
from hotseat.supervisor.telemetry.feed import TelemetryFeed
from hotseat.supervisor.telemetry.sample_taker import SampleTaker


class Watching(Struct, frozen=True, kw_only=True):
    """What looks by itself: guards, samples, KV on disk, upkeep."""

    guard: Guard
    watches: Watches
    feed: TelemetryFeed
    disk: DiskTier
    kept: KeptFigures
    measuring: Measuring
    upkeep: Upkeep


def make_watching(ground: Ground, requests: Requests, dispatch: Dispatch) -> Watching:
    """What looks by itself once the daemon lives."""
    planner, catalogue = ground.planner, ground.catalogue
    samples = SampleTaker(planner, ground.seat, requests.works, requests.keeper, ground.figures)
    kept = KeptFigures(catalogue, planner, requests.works.forecaster)
    measuring = Measuring(
        runner=dispatch.runner,
        planner=planner,
        works=requests.works,
        reports=requests.reports,
        keeper=requests.keeper,
        catalogue=catalogue,
        figures=ground.figures,
        kept=kept,
    )
    watches = make_watches(ground, requests, dispatch)
    return Watching(
        guard=Guard(watches, ground.seat, ground.figures, ground.home, dispatch.rhythm),
        watches=watches,
        feed=TelemetryFeed(samples, ground.events),
        disk=DiskTier(
            catalogue=catalogue,
            keeper=requests.keeper,
            registry=planner.registry,
            use=KvInUse(requests.works, ground.seat),
            events=ground.events,
            settings=ground.settings,
            kv_dir=ground.home.kv_dir,
        ),
        kept=kept,
        measuring=measuring,
        upkeep=Upkeep(
            rhythm=dispatch.rhythm,
            port=ground.port,
            ticks=make_ticks(requests, dispatch),
            acceptor=dispatch.acceptor,
            measuring=measuring,
            kept=kept,
            dispatcher=dispatch.dispatcher,
            housekeeping=Housekeeping(catalogue, ground.lock, planner),
        ),
    )


def make_watches(ground: Ground, requests: Requests, dispatch: Dispatch) -> Watches:
    """Each watch of the guard, which is their clock."""
    seat, works, events, settings = ground.seat, requests.works, ground.events, ground.settings
    return Watches(
        stalls=StallWatch(dispatch.runner, works, events, settings),
        memory=dispatch.memory,
        pressure=PressureWatch(
            level=dispatch.memory,
            seat=seat,
            works=works,
            runs=requests.runs,
            figures=ground.figures,
            events=events,
        ),
        power=PowerWatch(
            seat=seat,
            works=works,
            events=events,
            figures=ground.figures,
            settings=settings,
            assertion=system_power(),
        ),
        wakes=WakeWatch(
            seat=seat,
            lock=ground.lock,
            planner=ground.planner,
            works=works,
            events=events,
            now=time.monotonic(),
            whole_now=whole_time(),
        ),
        boots=dispatch.boots,
    )


def make_ticks(requests: Requests, dispatch: Dispatch) -> tuple[Callable[[float], None], ...]:
    """Parts that only have to be told what time it is, in this order."""

    def cancel_abandoned(now: float) -> None:
        for work in requests.abandoned.take_overdue(now):
            requests.runs.cancel(work)

    return (
        requests.outbox.tick,
        dispatch.swaps.tick,
        cancel_abandoned,
        requests.quiet.tick,
        dispatch.idle.tick,
    )

"""What looks by itself once the daemon lives: guards, samples, KV on disk, the ticker."""

import time
from importlib import metadata

from hotseat.supervisor.daemon.assembly.dispatch import Dispatch
from hotseat.supervisor.daemon.assembly.ground import Ground
from hotseat.supervisor.daemon.assembly.requests import Requests
from hotseat.supervisor.daemon.endpoint_file import EndpointFile
from hotseat.supervisor.daemon.gateway_process import GatewayProcess
from hotseat.supervisor.daemon.kept_figures import KeptFigures
from hotseat.supervisor.daemon.measuring import Measuring
from hotseat.supervisor.daemon.upkeep import Housekeeping, Upkeep
from hotseat.supervisor.guards.guard import Guard, Watches
from hotseat.supervisor.guards.memory_pressure import PressureWatch
from hotseat.supervisor.guards.sleep_prevention import PowerWatch
from hotseat.supervisor.guards.stuck_worker import StallWatch
from hotseat.supervisor.guards.unclean_boots import boot_id
from hotseat.supervisor.guards.wake import WakeWatch
from hotseat.supervisor.kv.disk_tier import DiskTier
from hotseat.supervisor.machine.sleep_assertion import system_power
from hotseat.supervisor.machine.time_awake import whole_time
from hotseat.supervisor.requests.kv_in_use import KvInUse
from hotseat.supervisor.telemetry.feed import TelemetryFeed
from hotseat.supervisor.telemetry.sample_taker import SampleTaker


class Watching:
    """Guards, samples, KV on disk, the ticker."""

    def __init__(self, ground: Ground, requests: Requests, dispatch: Dispatch) -> None:
        planner, catalogue, figures = ground.planner, ground.catalogue, ground.figures
        seat, works, keeper = ground.seat, requests.works, requests.keeper
        self.watches = make_watches(ground, requests, dispatch)
        self.guard = Guard(self.watches, seat, figures, planner.own, ground.home, dispatch.rhythm)
        samples = SampleTaker(planner, seat, works, keeper, figures)
        self.feed = TelemetryFeed(samples, ground.events)
        self.disk = DiskTier(
            catalogue=catalogue,
            keeper=keeper,
            registry=planner.registry,
            use=KvInUse(works, seat),
            events=ground.events,
            settings=ground.settings,
            kv_dir=ground.home.kv_dir,
        )
        self.kept = KeptFigures(catalogue, planner, works.forecaster, boot_id(), mlx_version())
        self.measuring = Measuring(
            runner=dispatch.runner,
            planner=planner,
            works=works,
            reports=requests.reports,
            keeper=keeper,
            catalogue=catalogue,
            figures=figures,
            kept=self.kept,
        )
        self.endpoint = EndpointFile(ground.home, ground.port, ground.identity)
        self.gateway = GatewayProcess(
            ground.home, ground.settings, ground.events, figures, self.endpoint
        )
        self.upkeep = Upkeep(
            rhythm=dispatch.rhythm,
            port=ground.port,
            ticks=(
                requests.outbox.tick,
                dispatch.swaps.tick,
                requests.runs.cancel_abandoned,
                requests.quiet.tick,
                requests.deferred.tick,
                dispatch.idle.tick,
                dispatch.contexts.tick,
            ),
            acceptor=dispatch.acceptor,
            measuring=self.measuring,
            kept=self.kept,
            dispatcher=dispatch.dispatcher,
            housekeeping=Housekeeping(catalogue, ground.lock, planner),
        )


def mlx_version() -> str:
    """Of the workers, which run in the same environment; empty where it has no mlx."""
    try:
        return metadata.version("mlx")
    except metadata.PackageNotFoundError:
        return ""


def make_watches(ground: Ground, requests: Requests, dispatch: Dispatch) -> Watches:
    """The guards' eyes."""
    seat, works, events, figures = ground.seat, requests.works, ground.events, ground.figures
    now, whole_now = time.monotonic(), whole_time()
    return Watches(
        stalls=StallWatch(dispatch.runner, works, events, figures, ground.settings),
        memory=dispatch.memory,
        pressure=PressureWatch(dispatch.memory, seat, works, requests.runs, figures, events),
        power=PowerWatch(seat, works, events, figures, ground.settings, system_power()),
        wakes=WakeWatch(seat, ground.lock, ground.planner, works, events, now, whole_now),
        boots=dispatch.boots,
    )

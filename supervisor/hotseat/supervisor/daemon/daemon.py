"""One run of the supervisor daemon: puts it together, starts it and ends it. Holds no rules.

Never imports mlx.
"""

import asyncio
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import structlog

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.daemon.assembly.desks import Desks
from hotseat.supervisor.daemon.assembly.dispatch import Dispatch
from hotseat.supervisor.daemon.assembly.ground import Ground
from hotseat.supervisor.daemon.assembly.requests import Requests
from hotseat.supervisor.daemon.assembly.watching import Watching
from hotseat.supervisor.daemon.endpoint_file import EndpointFile
from hotseat.supervisor.daemon.recovery import announce, recover
from hotseat.supervisor.daemon.router import Router
from hotseat.supervisor.daemon.upgrade_check import note_versions
from hotseat.supervisor.loop.tasks import TaskSet, settle
from hotseat.supervisor.machine.folder_access import notices_for
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.values import Settings

log = structlog.get_logger()


class Daemon:
    """One run of the supervisor. `start`, then `run` until it was told to stop, then `close`."""

    def __init__(self, home: Home, settings: Settings, catalogue: Catalogue, version: str) -> None:
        self._ground = Ground(home, settings, catalogue, version)
        self._requests = Requests(self._ground)
        self._dispatch = Dispatch(self._ground, self._requests)
        self._watching = Watching(self._ground, self._requests, self._dispatch)
        self._desks = Desks(self._ground, self._requests, self._dispatch, self._watching)
        self._router = Router(
            self._ground.port, self._requests, self._dispatch, self._watching.disk, self._desks
        )
        self._tasks = TaskSet("daemon.task_defect", _task_failed)

    @property
    def endpoint(self) -> EndpointFile:
        """By which clients find this run."""
        return self._watching.endpoint

    async def start(self) -> None:
        """Recovers what the last run left and opens the request socket."""
        ground, dispatch, watching = self._ground, self._dispatch, self._watching
        recovery = await recover(ground.catalogue, dispatch.acceptor.recover)
        ground.figures.recovery = recovery
        await watching.guard.recall()
        await watching.kept.recall()
        await note_versions(ground.catalogue)
        await watching.disk.recall()
        ground.port.open(self._router)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, dispatch.life.stop)
        ground.events.publish("daemon.started", pid=os.getpid(), version=ground.identity.version)
        announce(recovery, ground.events)
        await watching.measuring.measure()
        dispatch.runner.standby.start_soon(delay_s=0.0)
        for job in (
            dispatch.dispatcher.run(),
            watching.upkeep.run(),
            watching.disk.run(dispatch.rhythm.is_resting),
            watching.guard.run(),
            watching.gateway.run(),
        ):
            self.spawn(job)
        watching.feed.start()
        self._seat_at_start(ground.settings.seat.at_start)

    async def run(self) -> None:
        """Returns when the seat is empty after a stop was asked for, and everybody knows."""
        await self._dispatch.life.over()

    async def close(self) -> None:
        """Ends what still lives; nothing is answered after this."""
        ground, requests, dispatch = self._ground, self._requests, self._dispatch
        self._watching.gateway.tell_to_end()
        self._watching.feed.close()
        dispatch.dispatcher.close()
        self._desks.kv.close()
        await dispatch.runner.close()
        await settle(
            requests.runs,
            requests.suspended,
            dispatch.contexts,
            dispatch.swaps,
            requests.keeper,
            ground.journal,
        )
        await requests.keeper.flush()
        await self._watching.disk.keep_count()
        await self._watching.kept.keep_now()
        await self._watching.guard.close()
        self._tasks.cancel()
        await self._watching.gateway.close()
        self._router.close()
        ground.port.close()
        await ground.catalogue.close()
        ground.port.end()

    def spawn(self, job: Coroutine[Any, Any, Any]) -> None:
        """Runs a task for as long as the daemon lives; one that fails is logged, not lost."""
        self._tasks.spawn(job)

    async def look_at_folders(self) -> None:
        """Tries the folders that macOS may keep from a job; what it finds is in every status."""
        ground = self._ground
        records = ground.planner.registry.records()
        folders = [ground.home.root, *(Path(record.path) for record in records)]
        ground.figures.notices += await asyncio.to_thread(notices_for, folders, Path.home())
        if ground.figures.notices:
            ground.events.publish("folders.checked", notices=list(ground.figures.notices))

    def _seat_at_start(self, name: str | None) -> None:
        """Seats what the settings ask for; a model that cannot be is told, and keeps nobody out."""
        if name is None:
            return
        dispatch = self._dispatch
        try:
            model = dispatch.admission.model(name).name
            dispatch.dispatcher.seat_by_itself(model, "at_start")
        except HotseatError as error:
            log.warning("seat.not_taken", model=name, code=error.code, reason=error.message)
            self._ground.figures.notices += (f"seat.at_start: {error.message}",)


def _task_failed(error: HotseatError) -> None:
    log.error("task.failed", error=error.message)

"""`hotseat serve`: one daemon in the foreground, with its locks and its endpoint file."""

import asyncio
import gc
import os
import sys
import time
from pathlib import Path
from typing import Final

import msgspec
import structlog

from hotseat.protocol.ids import Tag
from hotseat.protocol.version import VERSION
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.daemon.daemon import Daemon
from hotseat.supervisor.daemon.logs import SERVICE_LOG, configure_logs
from hotseat.supervisor.daemon.service_log import is_service, keep_output_small
from hotseat.supervisor.kv.files import kv_sweep
from hotseat.supervisor.kv.rebuild import restore_catalogue
from hotseat.supervisor.machine.c_heap import return_large_blocks
from hotseat.supervisor.machine.drives import Drives
from hotseat.supervisor.machine.locks import InstanceLock
from hotseat.supervisor.machine.processes import raise_open_files
from hotseat.supervisor.machine.processor import refuse_intel_mac
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.placed_home import open_home
from hotseat.supervisor.settings.values import Settings

SWEEP_AGE_S: Final = 60.0
SWITCH_S: Final = 0.0005
"""How long the loop may wait for a thread that samples or commits: a token may be under way."""
log = structlog.get_logger()


def serve(home: Path | None = None, *, verbose: bool = False) -> int:
    """Runs the daemon until it is told to stop; 0 after an asked-for stop.

    Raises `HotseatError` before anything is touched when another daemon holds the home, or the
    settings cannot be read.
    """
    refuse_intel_mac()
    os.umask(0o077)
    sys.setswitchinterval(SWITCH_S)
    return_large_blocks()
    raise_open_files()
    place, settings = open_home(home)
    place.create()
    lock = InstanceLock(place.lock_file)
    lock.acquire()
    try:
        # Under launchd nobody watches stderr: it is for what comes before the log and beside it.
        configure_logs(place.log_file, is_foreground=not is_service(), is_verbose=verbose)
        asyncio.run(_serve(place, settings))
    finally:
        lock.release()
    return 0


async def _serve(home: Home, settings: Settings) -> None:
    catalogue = await Catalogue.open(
        home.catalogue, home.sessions_dir, Drives(home.catalogue.parent, home.kv_dir)
    )
    opened = catalogue.opened
    if opened.damaged is not None:
        log.error("catalogue.damaged", kept_as=str(opened.damaged), reason=opened.reason)
    is_whole = not opened.created or await restore_catalogue(home, catalogue)
    if is_whole:
        await _sweep(home, catalogue)
        await catalogue.reconcile_files()
    daemon = Daemon(home, settings, catalogue, VERSION)
    try:
        await daemon.start()
        if is_service():
            daemon.spawn(keep_output_small(home.logs_dir / SERVICE_LOG))
            daemon.spawn(daemon.look_at_folders())
        daemon.endpoint.publish()
        # What exists now stays: collecting it again and again would only cost pauses.
        gc.collect()
        gc.freeze()
        await daemon.run()
    finally:
        daemon.endpoint.remove()
        await daemon.close()
        log.info("daemon.stopped")


async def _sweep(home: Home, catalogue: Catalogue) -> None:
    """Takes away files that no row names: what a killed worker or daemon left."""
    tags = [Tag(folder.name) for folder in home.kv_dir.iterdir() if folder.is_dir()]
    known = {tag: await catalogue.files(tag) for tag in tags}
    swept = await asyncio.to_thread(kv_sweep, home.kv_dir, known, time.time() - SWEEP_AGE_S)
    log.info("kv.swept", **msgspec.structs.asdict(swept))

"""Makes a catalogue anew from KV files and session files, when it is gone or cannot be read."""

import asyncio
import time
from pathlib import Path
from typing import Final

import msgspec
import structlog

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.catalogue.copies import adopt, copy_of, known_sessions
from hotseat.supervisor.catalogue.rebuilding import Rebuilt
from hotseat.supervisor.catalogue.schema import SCHEMA_VERSION
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.kv.scan import find_everything
from hotseat.supervisor.settings.home import Home

_SIDES: Final = ("", "-wal", "-shm")
log = structlog.get_logger()


async def restore_catalogue(home: Home, catalogue: Catalogue) -> bool:
    """Fills a catalogue that was begun empty; False if that did not work.

    Nothing may be swept then: the files are all there is.
    """
    try:
        await rebuild_into(home, catalogue)
    except HotseatError as error:
        log.warning("catalogue.rebuild_failed", code=error.code, reason=error.message)
        return False
    return True


async def rebuild_into(home: Home, catalogue: Catalogue) -> Rebuilt:
    """What files say goes into an empty catalogue. Raises `HotseatError`."""
    started = time.monotonic()
    if not await asyncio.to_thread(_has_files, home):
        return Rebuilt()
    found, damaged = await asyncio.to_thread(find_everything, home.kv_dir, home.sessions_dir)
    rebuilt = await catalogue.rebuild(found)
    for reason in damaged:
        log.warning("session.file_damaged", reason=reason)
    seconds = round(time.monotonic() - started, 3)
    log.info("catalogue.rebuilt", seconds=seconds, **msgspec.structs.asdict(rebuilt))
    return rebuilt


async def rebuild_home(home: Home) -> tuple[Rebuilt, Path | None]:
    """Puts the catalogue of a home aside and makes a new one; where the old one is.

    What no file holds comes from the copy that a migration away from this version left, if it
    did: that is how a home goes back to an older hotseat. The caller holds the home's lock. If it
    fails, the old one is put back.
    """
    aside = _put_aside(home.catalogue)
    try:
        catalogue = await Catalogue.open(home.catalogue, home.sessions_dir)
        try:
            rebuilt = await rebuild_into(home, catalogue)
            copy = copy_of(home.catalogue, SCHEMA_VERSION)
            if copy.exists():
                rebuilt = await _adopt(catalogue, rebuilt, copy, aside)
            await catalogue.reconcile_files()
        finally:
            await catalogue.close()
    except BaseException:
        if aside is not None:
            _move(aside, home.catalogue)
        raise
    return rebuilt, aside


async def _adopt(catalogue: Catalogue, rebuilt: Rebuilt, copy: Path, newer: Path | None) -> Rebuilt:
    """Sessions that the newer version knew no more were removed under it: they stay removed."""
    kept = None if newer is None else known_sessions(newer)
    taken = await catalogue.call(lambda db: adopt(db, copy, kept))
    return msgspec.structs.replace(
        rebuilt, copied_sessions=taken.sessions, copied_replies=taken.requests
    )


def _has_files(home: Home) -> bool:
    """True if there is anything to make a catalogue from."""
    return any(home.sessions_dir.glob("*.session")) or any(home.kv_dir.glob("*/*/**/*.kv"))


def _put_aside(path: Path) -> Path | None:
    if not path.exists():
        return None
    target = path.with_name(f"{path.name}.replaced-{time.strftime('%Y%m%d-%H%M%S')}")
    _move(path, target)
    return target


def _move(source: Path, target: Path) -> None:
    """With its log: a log that stayed behind would be replayed into another file."""
    for side in _SIDES:
        path, place = source.with_name(source.name + side), target.with_name(target.name + side)
        place.unlink(missing_ok=True)
        if path.exists():
            path.rename(place)

"""What a home keeps of one model: its sessions and its contexts, also under a new name.

Reading takes no lock and changes nothing; renaming is for a home whose daemon does not run.
"""

import asyncio
import sqlite3
from contextlib import closing

from msgspec import Struct

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName
from hotseat.protocol.model import ModelRecord
from hotseat.supervisor.catalogue import sessions
from hotseat.supervisor.catalogue.eviction import usage
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.kv.offline import locked_home
from hotseat.supervisor.models.registry import Registry, nobody
from hotseat.supervisor.models.renaming import rename_folder, target_folder
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.placed_home import open_home


class ModelStore(Struct, frozen=True, kw_only=True):
    """Sessions of a model by name, and KV under its tag; both 0 where no catalogue can be read."""

    sessions: int = 0
    kv_bytes: int = 0


def stored_of(home: Home, record: ModelRecord) -> ModelStore:
    """What is stored of a model now."""
    try:
        with closing(sqlite3.connect(f"{home.catalogue.as_uri()}?mode=ro", uri=True)) as db:
            found = usage(db, frozenset({record.tag}))
            return ModelStore(
                sessions=sessions.count_sessions(db, record.name),
                kv_bytes=sum(tag.size_bytes for tag in found if tag.tag == record.tag),
            )
    except sqlite3.Error:
        return ModelStore()  # there is none, or it is one of another version


def rename_model(old: str, new: str) -> int:
    """Gives a model another name, its sessions with it; how many those are.

    Raises `HotseatError`: already_running under a daemon, unknown_model, invalid_request for a
    name that is taken or is none. Killed half way, the same call again ends the work.
    """
    with locked_home() as home:
        registry = Registry(*open_home(), nobody)
        folder = target_folder(registry, old, new)
        moved = asyncio.run(_rename_sessions(home, ModelName(old), ModelName(new)))
        rename_folder(registry.own_folder(old), folder)
        return moved


async def _rename_sessions(home: Home, old: ModelName, new: ModelName) -> int:
    if not home.catalogue.exists():
        return 0
    catalogue = await Catalogue.open(home.catalogue, home.sessions_dir)
    try:
        waiting = [row for row in await catalogue.unfinished() if row.model == old]
        if waiting:
            raise HotseatError(
                "invalid_request",
                f"{len(waiting)} accepted requests ask for {old!r}; start the daemon and let them "
                "end, then rename",
                model=old,
            )
        return await catalogue.rename_model(old, new)
    finally:
        await catalogue.close()

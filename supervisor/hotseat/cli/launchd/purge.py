"""What a home folder holds, by kind and size, and its removal. Asks nobody."""

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.machine.locks import InstanceLock
from hotseat.supervisor.settings.home import Home

_KINDS: Final = (
    ("models", "imported models (folders registered in place keep their files)"),
    ("kv", "contexts on the SSD"),
    ("catalogue.sqlite", "sessions, replies, journal"),
    ("logs", "logs"),
    ("run", "sockets and locks"),
    ("config.toml", "settings"),
)
_OTHER: Final = "other files"


class Doomed(Struct, frozen=True, kw_only=True):
    """One entry of the list."""

    path: str
    what: str
    size_bytes: int


def list_home(home: Home) -> list[Doomed]:
    """Everything under the home folder, in the order of the table; links count as links."""
    if not home.root.is_dir():
        return []
    kinds = dict(_KINDS)
    order = {name: place for place, (name, _) in enumerate(_KINDS)}
    entries = sorted(home.root.iterdir(), key=lambda path: (order.get(_kind(path), 99), path.name))
    return [
        Doomed(
            path=str(path),
            what=kinds.get(_kind(path), _OTHER),
            size_bytes=sum(_sizes(path)),
        )
        for path in entries
    ]


def remove_home(home: Home) -> int:
    """Removes the home folder; the bytes that went. Refuses while a daemon holds it.

    Nothing outside goes: links are unlinked, not followed.
    """
    freed = sum(entry.size_bytes for entry in list_home(home))
    if not home.root.is_dir():
        return 0
    if not (home.run_dir.is_dir() or home.catalogue.exists() or home.models_dir.is_dir()):
        raise HotseatError(
            "invalid_request",
            f"{home.root} does not look like a home of hotseat; remove it yourself",
            path=str(home.root),
        )
    if home.run_dir.is_dir():
        lock = InstanceLock(home.lock_file)
        lock.acquire()
        lock.release()
    if home.root.is_symlink():
        for entry in home.root.iterdir():
            _remove(entry)
    else:
        shutil.rmtree(home.root)
    return freed


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _kind(path: Path) -> str:
    return "catalogue.sqlite" if path.name.startswith("catalogue.sqlite") else path.name


def _sizes(path: Path) -> Iterator[int]:
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        yield found.st_size
        return
    for entry in path.iterdir():
        yield from _sizes(entry)

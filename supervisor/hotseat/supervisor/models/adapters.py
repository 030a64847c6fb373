"""LoRA adapters that settings name: their digests, read once. Must not know records or mlx.

Reading takes as long as the files are large: `learn` is for the start and for threads, `get` only
looks whether the files are still those that were read.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct

from hotseat.protocol.limits import MIB
from hotseat.protocol.model import FileDigest
from hotseat.protocol.tags import ADAPTER_FILES, DIGEST_BYTES
from hotseat.supervisor.machine.volumes import missing_volume

_READ_BYTES: Final = 4 * MIB


class Adapter(Struct, frozen=True):
    """An adapter as it was read, or why it cannot be used."""

    files: tuple[FileDigest, ...] = ()
    """Under absolute paths."""
    reason: str = ""


class Adapters:
    """What is known of adapters, by folder."""

    def __init__(self) -> None:
        self._known: dict[str, Adapter] = {}

    def learn(self, folders: Iterable[str]) -> None:
        """Reads what is new or changed. May run in a thread: entries are replaced whole."""
        for folder in folders:
            known = self._known.get(folder)
            if known is None or known.reason or _change(known):
                self._known[folder] = _read(Path(folder))

    def get(self, folder: str) -> Adapter:
        """What is known of an adapter; with a reason if it is not what was read."""
        known = self._known.get(folder, Adapter(reason=f"adapter {folder} was not read yet"))
        changed = "" if known.reason else _change(known)
        return Adapter(reason=changed) if changed else known


def _read(folder: Path) -> Adapter:
    files = []
    for name in ADAPTER_FILES:
        path = folder / name
        try:
            found = path.stat()
            digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
            with path.open("rb") as stream:
                while piece := stream.read(_READ_BYTES):
                    digest.update(piece)
        except OSError as error:
            reason = missing_volume(folder) or f"it has no {name} ({error.strerror})"
            return Adapter(reason=f"adapter {folder}: {reason}")
        files.append(
            FileDigest(
                name=str(path),
                size_bytes=found.st_size,
                blake2b=digest.hexdigest(),
                mtime_ns=found.st_mtime_ns,
            )
        )
    return Adapter(files=tuple(files))


def _change(adapter: Adapter) -> str:
    """Why files are not those that were read; empty if they are."""
    for file in adapter.files:
        try:
            found = Path(file.name).stat()
        except OSError as error:
            reason = missing_volume(Path(file.name)) or f"{file.name} is gone ({error.strerror})"
            return f"adapter: {reason}"
        if (found.st_size, found.st_mtime_ns) != (file.size_bytes, file.mtime_ns):
            return f"adapter file {file.name} was changed since it was read"
    return ""

"""Damaged KV files, kept for a look at them. Knows no file format and no catalogue.

The folder has a cap: the oldest go first, and a file larger than the cap is not kept at all.
"""

import os
import shutil
import time
from pathlib import Path
from typing import Final

from hotseat.protocol.ids import Tag
from hotseat.protocol.limits import MIB

CAP_BYTES: Final = 256 * MIB


class Quarantine:
    """A folder beside the KV folder. All calls block: run them in a thread."""

    def __init__(self, folder: Path, cap_bytes: int = CAP_BYTES) -> None:
        self._folder = folder
        self._cap_bytes = cap_bytes

    def take(self, kv_dir: Path, tag: Tag, file: str) -> None:
        """Moves a file out of the KV folder; one that is gone is no error. Raises OSError."""
        source = kv_dir / tag / file
        self._folder.mkdir(mode=0o700, exist_ok=True)
        target = self._folder / f"{time.time_ns()}-{tag[:8]}-{source.name}"
        try:
            source.rename(target)
        except FileNotFoundError:
            return
        self._trim()

    def size_bytes(self) -> int:
        """Bytes of what is kept."""
        return sum(size for _, size in self._files())

    def clear(self) -> int:
        """Removes everything; its bytes."""
        freed = self.size_bytes()
        shutil.rmtree(self._folder, ignore_errors=True)
        return freed

    def _files(self) -> list[tuple[Path, int]]:
        """Oldest first: names begin with the time."""
        try:
            with os.scandir(self._folder) as listing:
                found = [(Path(item.path), item.stat().st_size) for item in listing]
        except FileNotFoundError:
            return []
        return sorted(found)

    def _trim(self) -> None:
        files = self._files()
        total = sum(size for _, size in files)
        for path, size in files:
            if total <= self._cap_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size

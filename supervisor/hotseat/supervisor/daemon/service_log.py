"""Keeps what launchd catches of stdout and stderr within bounds. Knows nothing of the log itself.

launchd opens the file once and never rotates it, so the daemon moves it away under its own hands
and points its two descriptors at a fresh one.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hotseat.supervisor.daemon.logs import FILE_BYTES, FILES, SERVICE_VARIABLE

CHECK_S: Final = 60.0
_OUTPUTS: Final = (1, 2)


def is_service(environ: Mapping[str, str] = os.environ) -> bool:
    """True when launchd started this process by our property list."""
    return bool(environ.get(SERVICE_VARIABLE))


def rotate_output(
    path: Path,
    *,
    max_bytes: int = FILE_BYTES,
    files: int = FILES,
    descriptors: tuple[int, ...] = _OUTPUTS,
) -> bool:
    """Begins a new file when this one is full; True if it did.

    Descriptors that do not point at `path` (a terminal, a pipe) are left alone.
    """
    ours = [number for number in descriptors if _points_at(number, path)]
    if not ours or path.stat().st_size < max_bytes:
        return False
    for number in range(files - 1, 1, -1):
        older = path.with_name(f"{path.name}.{number - 1}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number}"))
    path.replace(path.with_name(f"{path.name}.1"))
    fresh = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for number in ours:
            os.dup2(fresh, number)
    finally:
        os.close(fresh)
    return True


async def keep_output_small(path: Path) -> None:
    """Looks once a minute."""
    while True:
        await asyncio.to_thread(rotate_output, path)
        await asyncio.sleep(CHECK_S)


def _points_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False

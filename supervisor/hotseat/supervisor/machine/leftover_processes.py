"""Finds and ends processes that a worker left behind, by a mark in their environment.

A process that was forked twice is nobody's child and no pid leads to it, but it keeps the
environment it was started with. Nothing is ever signalled by a pid from a file. Takes
milliseconds: call it in a thread.
"""

import contextlib
import hashlib
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Final

import psutil

VARIABLE: Final = "HOTSEAT_WORKER_KIN"
_ROUNDS: Final = 3
"""One that is being forked while we look is found in the next round."""
_GONE_S: Final = 0.5


def home_mark(home: Path) -> str:
    """What the workers of a home have in common."""
    return hashlib.blake2b(os.fsencode(home.resolve()), digest_size=12).hexdigest()


def new_mark(home: Path) -> str:
    """Of one worker and all that come from it."""
    return f"{home_mark(home)}.{secrets.token_hex(8)}"


def end_leftovers(mark: str) -> list[int]:
    """SIGKILL to every process of ours whose mark begins with `mark`; their pids."""
    ended: list[int] = []
    for _ in range(_ROUNDS):
        found = [process for pid in _pids(mark) if (process := _process(pid)) is not None]
        if not found:
            break
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()  # psutil looks at the start time first: a reused pid is left alone
                ended.append(process.pid)
        _wait_gone(found)
    return ended


def _pids(mark: str) -> list[int]:
    needle = f"{VARIABLE}={mark}".encode()
    return [pid for pid in psutil.pids() if pid != os.getpid() and needle in _environ(pid)]


def _environ(pid: int) -> bytes:
    try:
        if sys.platform == "linux":
            return b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
        value = psutil.Process(pid).environ().get(VARIABLE, "")
    except (OSError, psutil.Error):
        return b""  # gone, or not ours to look at
    return f"{VARIABLE}={value}".encode()


def _process(pid: int) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except psutil.Error:
        return None


def _wait_gone(processes: list[psutil.Process]) -> None:
    deadline = time.monotonic() + _GONE_S
    while time.monotonic() < deadline and any(_process(one.pid) for one in processes):
        time.sleep(0.002)

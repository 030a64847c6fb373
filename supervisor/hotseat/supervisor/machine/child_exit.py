"""Learns from the kernel that a child has ended: a pidfd on Linux, a kqueue on macOS.

asyncio's own `wait` returns only when the pipes are closed too, and whatever the child left behind
may keep them open. Must not reap: that stays with asyncio.
"""

import asyncio
import contextlib
import os
import select
import sys


async def ended(pid: int) -> None:
    """Returns when the process has ended. Raises OSError where the kernel cannot tell."""
    if sys.platform == "darwin":
        queue = select.kqueue()
        try:
            event = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
            with contextlib.suppress(ProcessLookupError):
                queue.control([event], 0)
                await _readable(queue.fileno())
        finally:
            queue.close()
        return
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # reaped already
    try:
        await _readable(fd)
    finally:
        os.close(fd)


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    is_over = asyncio.Event()
    loop.add_reader(fd, is_over.set)
    try:
        await is_over.wait()
    finally:
        loop.remove_reader(fd)

"""Who holds the memory that a model lacks: told in refusals, and unloaded on request.

Looks only when a refusal is written, in a thread and for seconds at most; what was found serves
the refusals of the next moments too. Decides nothing about the seat.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import psutil
import structlog

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.machine.figures import Holder, LoadedElsewhere
from hotseat.supervisor.machine.memory import MemoryProbe
from hotseat.supervisor.machine.other_models import (
    OtherProgram,
    loaded_elsewhere,
    unload_elsewhere,
)
from hotseat.supervisor.models.rules.room import named_shortage

LOOK_S: Final = 5.0
"""A refusal without names is better than one that comes late."""
FRESH_S: Final = 2.0
NAMED: Final = 5
log = structlog.get_logger()
T = TypeVar("T")
Found = tuple[list[LoadedElsewhere], list[Holder]]


class MemoryHolders:
    """One per daemon."""

    def __init__(self, probe: MemoryProbe, programs: Sequence[OtherProgram]) -> None:
        self._probe = probe
        self._programs = programs
        self._lock = asyncio.Lock()
        self._found: Found = ([], [])
        self._found_at = float("-inf")

    async def explained(self, error: HotseatError) -> HotseatError:
        """A refusal for lack of room, with who holds it; any other error as it is."""
        if error.code != "memory_pressure" or "needed_bytes" not in error.facts:
            return error
        async with self._lock:
            if time.monotonic() - self._found_at > FRESH_S:
                self._found = await asyncio.gather(
                    _in_time(lambda: loaded_elsewhere(self._programs)), _in_time(self._holders)
                )
                self._found_at = time.monotonic()
            others, holders = self._found
        return named_shortage(error, others, holders)

    async def unload_others(self) -> bool:
        """Unloads what other programs have in memory; True if anything is gone."""
        async with self._lock:
            gone = await asyncio.to_thread(unload_elsewhere, self._programs)
            self._found_at = float("-inf")
        log.info("memory.others_unloaded", models=[f"{one.program}: {one.model}" for one in gone])
        return bool(gone)

    def _holders(self) -> list[Holder]:
        try:
            children = psutil.Process().children(recursive=True)
        except psutil.Error:
            children = []
        own = {os.getpid(), *(child.pid for child in children)}
        return self._probe.holders(NAMED, own)


async def _in_time(look: Callable[[], list[T]]) -> list[T]:
    """What a look in a thread finds; nothing when it takes too long."""
    try:
        async with asyncio.timeout(LOOK_S):
            return await asyncio.to_thread(look)
    except TimeoutError:
        log.warning("memory.holders_unknown", waited_s=LOOK_S)
        return []

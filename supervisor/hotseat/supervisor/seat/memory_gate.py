"""The memory gate: a process that is gone proves nothing, available memory does. Only measures."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from hotseat.protocol.limits import MIB
from hotseat.protocol.link_reports import Unloaded
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.models.rules.room import room_bytes
from hotseat.supervisor.seat.host import SwapFigures
from hotseat.supervisor.seat.rules.states import Fault
from hotseat.supervisor.seat.rules.wired import (
    WAIT_S,
    Strands,
    Wired,
    after_end,
    not_back_bytes,
    wired_of_worker,
)

POLL_S: Final = 0.02
RETURNED_SHARE: Final = 0.99
"""Of the weights that has to be back, by the OS, before a model is loaded in place."""
UNLOADED_BYTES: Final = 16 * MIB
"""What the allocator may still count as active once nothing of a model is left."""
log = structlog.get_logger()


class MemoryGate:
    """Waits until the memory that the next model needs is there."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._before_load: int | None = None
        self._ended: Wired | None = None
        self.strands = Strands()
        """Of the ends so far."""

    def measure(self) -> SwapFigures:
        """Figures of a swap that begins now."""
        figures = SwapFigures()
        machine = self._planner.probe.machine()
        figures.available_before = machine.available_bytes
        figures.wired_before = machine.wired_bytes
        return figures

    def note_end(self, figures: SwapFigures) -> None:
        """The worker ends or is told to, or to let go: what it has wired is looked for later."""
        wired = self._planner.probe.machine().wired_bytes
        if figures.wired_before is None:
            figures.wired_before = wired
        footprint = self._planner.own.worker_bytes
        self._ended = wired_of_worker(wired, self._before_load, footprint)

    def strand(self) -> None:
        """What did not come back by now is waited for no more."""
        self._ended = None

    async def wait(
        self,
        target: Callable[[], tuple[bool, str | None]],
        figures: SwapFigures,
        not_before: float = 0.0,
        wired_wait_s: float = WAIT_S,
    ) -> bool:
        """True when memory is there; False when `target()` says that nobody waits any more.

        Pages that stay wired hold it up for `wired_wait_s` at most.
        """
        began = time.monotonic()
        while True:
            is_waited_for, model = target()
            if not is_waited_for:
                log.warning("seat.memory_missing", model=model)
                return False
            now = time.monotonic()
            if model is not None and now < not_before:
                await asyncio.sleep(POLL_S)  # the back-off of a restart
                continue
            machine = self._planner.machine()
            figures.available_before = figures.available_before or machine.available_bytes
            need = self._planner.bytes_to_seat(model, machine) if model else 0
            wired = not_back_bytes(self._ended, machine.wired_bytes)
            if room_bytes(machine) >= need and (not wired or now - began >= wired_wait_s):
                self._open(machine, wired, figures, seats=model is not None)
                return True
            await asyncio.sleep(POLL_S)

    def _open(
        self, machine: MachineMemory, wired: int | None, figures: SwapFigures, *, seats: bool
    ) -> None:
        if wired:
            log.warning("seat.wired_not_back", wired_not_back_bytes=wired)
        figures.available_after = machine.available_bytes
        figures.wired_after = machine.wired_bytes
        figures.wired_not_back = wired
        if self._ended is not None:
            self.strands = after_end(self.strands, wired)
        self._ended = None
        # What others wire under an empty seat is not the next worker's.
        self._before_load = machine.wired_bytes if seats else None


def unload_fault(message: Unloaded, resident_bytes: int) -> Fault | None:
    """Why an unload in place is not believed; None when references, allocator and OS agree."""
    freed = message.footprint_before - message.footprint_after
    wanted = RETURNED_SHARE * resident_bytes
    if not message.leaked and freed >= wanted and message.active_after <= UNLOADED_BYTES:
        return None
    return Fault(
        code="memory_stranded",
        message=f"{freed} of {int(wanted)} bytes came back in place",
        facts={"leaked": list(message.leaked)},
    )

"""The memory gate: a process that is gone proves nothing, available memory does. Only measures."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from hotseat.protocol.limits import MIB
from hotseat.protocol.link_reports import Unloaded
from hotseat.protocol.model import ModelRecord
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.seat.host import SwapFigures
from hotseat.supervisor.seat.rules.states import Fault

POLL_S: Final = 0.02
RETURNED_SHARE: Final = 0.99
"""Of the weights that has to be back, by the OS, before a model is loaded in place."""
UNLOADED_BYTES: Final = 16 * MIB
"""What the allocator may still count as active once nothing of a model is left."""
WIRED_SLACK: Final = 1.05
"""macOS frees a dead process's wired pages late: back to the level before the load, plus 5 %."""
log = structlog.get_logger()


class MemoryGate:
    """Waits until the memory that the next model needs is there."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._wired_before_load: int | None = None

    def measure(self) -> SwapFigures:
        """Figures of a swap that begins now."""
        figures = SwapFigures()
        machine = self._planner.probe.machine()
        figures.available_before = machine.available_bytes
        figures.wired_before = machine.wired_bytes
        return figures

    def strand(self) -> None:
        """Stranded pages stay wired: what is left is measured by itself from here on."""
        self._wired_before_load = None

    async def wait(
        self,
        target: Callable[[], tuple[bool, str | None]],
        figures: SwapFigures,
        not_before: float = 0.0,
    ) -> bool:
        """True when memory is there; False when `target()` says that nobody waits any more."""
        while True:
            is_waited_for, model = target()
            if not is_waited_for:
                log.warning("seat.memory_missing", model=model)
                return False
            if model is not None and time.monotonic() < not_before:
                await asyncio.sleep(POLL_S)  # the back-off of a restart
                continue
            machine = self._planner.machine()
            figures.available_before = figures.available_before or machine.available_bytes
            need = self._planner.bytes_to_seat(model) if model else 0
            if machine.available_bytes >= need and self._wired_is_back(machine.wired_bytes):
                figures.available_after = machine.available_bytes
                figures.wired_after = machine.wired_bytes
                # An empty seat owes nothing: what others wire meanwhile is not the last worker's.
                self._wired_before_load = machine.wired_bytes if model is not None else None
                return True
            await asyncio.sleep(POLL_S)

    def _wired_is_back(self, wired: int | None) -> bool:
        """Elsewhere than on macOS nobody tells."""
        if wired is None or self._wired_before_load is None:
            return True
        return wired <= self._wired_before_load * WIRED_SLACK


def unload_fault(message: Unloaded, record: ModelRecord | None) -> Fault | None:
    """Why an unload in place is not believed; None when references, allocator and OS agree."""
    freed = message.footprint_before - message.footprint_after
    wanted = RETURNED_SHARE * (record.weights_bytes if record is not None else 0)
    if not message.leaked and freed >= wanted and message.active_after <= UNLOADED_BYTES:
        return None
    return Fault(
        code="memory_stranded",
        message=f"{freed} of {int(wanted)} bytes came back in place",
        facts={"leaked": list(message.leaked)},
    )

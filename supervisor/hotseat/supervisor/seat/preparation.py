"""What the standby makes ready for the models that may be next. Decides nothing about the seat."""

from collections.abc import Sequence
from typing import Final

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB
from hotseat.protocol.model import ModelRecord
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.seat.host import SeatHost
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.seat.standby import Standby

KEPT_SHARE: Final = 1.5
"""Memory for weights is touched ahead while so many reserves stay available after it; what is
touched is let go of when less than one reserve is available."""
KERNELS_BYTES: Final = GIB
"""For the layers that run for a model's kernels: one of Qwen3-30B-A3B in 4 bits has 0.34 GiB."""


class Preparation:
    """Tells the standby. `host` says who gets the seat next, as far as anybody knows."""

    def __init__(self, planner: Planner, seat: Seat, standby: Standby, host: SeatHost) -> None:
        self._planner = planner
        self._seat = seat
        self._standby = standby
        self._host = host

    def read_ahead(self, model: str) -> None:
        """The model that a swap is under way to: its tokenizer is loaded, its weights are read."""
        record = self._record(model)
        if record is None:
            return
        machine = self._planner.probe.machine()
        plan = self._planner.plan(record, in_any_case=True)
        floor = self._reserve_bytes() + plan.weights_bytes
        if machine.pages is None:
            self._standby.prepare(
                record, warm_pages=True, residence=plan.residence, free_floor_bytes=floor
            )
        else:
            # What a Mac's worker could ask for leaves out the cache it is reading into.
            self._standby.prepare(
                record,
                warm_pages=machine.available_bytes >= floor,
                residence=plan.residence,
                free_floor_bytes=0,
                kernels_limit_bytes=self._kernels_limit_bytes(machine),
            )

    def prepare_likely(self) -> None:
        """A fresh standby gets tokenizers and memory for what is next and what was seated last."""
        likely = [self._host.up_next, *reversed(self._seat.seated_before)]
        seated = self._seat.state.model
        records = [
            record
            for model in dict.fromkeys(name for name in likely if name and name != seated)
            if (record := self._record(model)) is not None
        ]
        kernels = self._kernels_limit_bytes(self._planner.probe.machine()) if records else 0
        for record in records:
            self._standby.prepare(
                record, warm_pages=False, free_floor_bytes=0, kernels_limit_bytes=kernels
            )
        if self._planner.settings.seat.ready_memory == "on":
            plans = [self._planner.plan(record, in_any_case=True) for record in records]
            self._hold_blank([plan.weights_bytes for plan in plans])

    def _hold_blank(self, weights_bytes: Sequence[int]) -> None:
        """For the largest of the models that there is room for."""
        reserve = self._reserve_bytes()
        room = self._planner.probe.machine().available_bytes - int(KEPT_SHARE * reserve)
        size = max((one for one in weights_bytes if one <= room), default=0)
        if size:
            self._standby.hold_blank(size, reserve)

    def _kernels_limit_bytes(self, machine: MachineMemory) -> int:
        """Only Metal compiles kernels when they are asked for; what a CPU runs is there."""
        if machine.pages is None:
            return 0
        return max(0, min(KERNELS_BYTES, machine.available_bytes - self._reserve_bytes()))

    def _reserve_bytes(self) -> int:
        return self._planner.settings.memory.reserve_for(self._planner.probe.machine())

    def _record(self, model: str) -> ModelRecord | None:
        try:
            return self._planner.registry.get(model)
        except HotseatError:
            return None  # refused when its turn comes

"""What the standby makes ready for the models that may be next. Decides nothing about the seat."""

from collections.abc import Callable, Sequence
from typing import Final

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.model import ModelRecord
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.seat.runner import SeatRunner

KEPT_SHARE: Final = 1.5
"""Memory for weights is touched ahead while so many reserves stay available after it; what is
touched is let go of when less than one reserve is available."""


class Preparation:
    """Tells the standby. `likely` gives names, the likeliest first; None is nothing known."""

    def __init__(
        self, planner: Planner, runner: SeatRunner, likely: Callable[[], Sequence[str | None]]
    ) -> None:
        self._planner = planner
        self._runner = runner
        self._likely = likely
        planner.blank_bytes = lambda: runner.standby.blank_bytes

    def prepare(self, model: str, warms: bool) -> None:  # noqa: FBT001 - a callback
        """The tokenizer of what is next is loaded; if it `warms`, its weights are read ahead."""
        record = self._record(model)
        if record is not None:
            floor = self._reserve_bytes() + record.weights_bytes
            self._runner.standby.prepare(record, warm_pages=warms, free_floor_bytes=floor)

    def prepare_likely(self) -> None:
        """A fresh standby gets tokenizers and memory for what is next and what was seated last."""
        seated = self._runner.state.model
        records = [
            record
            for model in dict.fromkeys(name for name in self._likely() if name and name != seated)
            if (record := self._record(model)) is not None
        ]
        for record in records:
            self._runner.standby.prepare(record, warm_pages=False, free_floor_bytes=0)
        if self._planner.settings.seat.ready_memory == "on":
            self._hold_blank([record.weights_bytes for record in records])

    def _hold_blank(self, weights_bytes: Sequence[int]) -> None:
        """For the largest of the models that there is room for."""
        reserve = self._reserve_bytes()
        room = self._planner.probe.machine().available_bytes - int(KEPT_SHARE * reserve)
        size = max((one for one in weights_bytes if one <= room), default=0)
        if size:
            self._runner.standby.hold_blank(size, reserve)

    def _reserve_bytes(self) -> int:
        total = self._planner.probe.machine().total_bytes
        return self._planner.settings.memory.reserve_for(total)

    def _record(self, model: str) -> ModelRecord | None:
        try:
            return self._planner.registry.get(model)
        except HotseatError:
            return None  # refused when its turn comes

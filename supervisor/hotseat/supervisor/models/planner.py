"""Whether a model may be seated, and with how much KV: registry, memory and plan put together.

Reads state only; the arithmetic is in `rules/plan.py`.
"""

from typing import Final

import structlog
from msgspec.structs import replace

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB, MIB
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.views import PlanView
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.machine.memory import MemoryProbe
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.models.registry import Registry
from hotseat.supervisor.models.rules.plan import plan_elsewhere, plan_model
from hotseat.supervisor.settings.values import Settings

HOLDERS: Final = 5
OVERHEAD_STEP_BYTES: Final = 16 * MIB
"""Smaller changes of a footprint are noise."""
log = structlog.get_logger()


class Planner:
    """Answers "does it fit" before anything is drained."""

    def __init__(
        self, registry: Registry, probe: MemoryProbe, own: OwnMemory, settings: Settings
    ) -> None:
        self.registry = registry
        self.probe = probe
        self.own = own
        self.settings = settings
        self.overheads: dict[str, int] = {}
        """Measured runtime overhead by tag, bytes."""

    def machine(self) -> MachineMemory:
        """Memory of the machine now; what is held ready for weights counts as available."""
        machine = self.probe.machine()
        available = machine.available_bytes + self.own.ready_bytes
        return replace(machine, available_bytes=available)

    def use(self, settings: Settings) -> None:
        """Takes new settings; records are read anew, since settings change them."""
        self.settings = settings
        self.registry.use(settings)

    def plan(
        self,
        record: ModelRecord,
        *,
        returned_bytes: int | None = None,
        with_holders: bool = False,
    ) -> PlanView:
        """The memory plan of a model.

        `returned_bytes` is what the worker that has the seat now would give back: None is all it
        holds, 0 stands for a seat that was given up already.
        """
        measured = self.overheads.get(record.tag)
        if returned_bytes is None:
            returned_bytes = self.own.returned_bytes
        return plan_model(
            record,
            self.machine(),
            self.settings,
            own_footprint_bytes=returned_bytes,
            standby_bytes=max(self.own.standby_bytes - self.own.ready_bytes, 0),
            overhead_bytes=measured,
            overhead_measured=measured is not None,
            working_set_bytes=self.own.working_set_bytes,
            holders=self.probe.holders(HOLDERS) if with_holders else (),
        )

    def plan_elsewhere(
        self, record: ModelRecord, ram_bytes: int | None, working_set_bytes: int | None
    ) -> PlanView:
        """The plan on a machine of that size, with the overhead that was measured here."""
        return plan_elsewhere(
            record,
            ram_bytes or self.probe.machine().total_bytes,
            working_set_bytes,
            overhead_bytes=self.overheads.get(record.tag),
        )

    def check(self, record: ModelRecord) -> ModelRecord:
        """The record of a model if it can be seated; raises the typed refusal otherwise."""
        if record.unfit_reason:
            raise HotseatError(
                "model_unavailable",
                f"{record.name} cannot be served: {record.unfit_reason}",
                model=record.name,
                architecture=record.architecture,
            )
        plan = self.plan(record)
        if not plan.fits:
            raise HotseatError(
                "model_unfit",
                f"{record.name} does not fit: {plan.reason}",
                model=record.name,
                weights_bytes=plan.weights_bytes,
                limit_bytes=plan.limit_bytes,
                binding=plan.binding,
                kv_budget_bytes=plan.kv_budget_bytes,
                remedy=plan.remedy,
            )
        self._check_now(record, plan)
        return record

    def _check_now(self, record: ModelRecord, plan: PlanView) -> None:
        """What the memory gate will ask for has to be there: nothing is drained in vain."""
        need = plan.weights_bytes + plan.overhead_bytes + plan.reserve_bytes
        free = self.machine().available_bytes + self.own.returned_bytes
        if free < need:
            raise HotseatError(
                "memory_pressure",
                f"{record.name} needs {need / GIB:.1f} GiB with the reserve, and "
                f"{free / GIB:.1f} GiB are available; close other programs or lower reserve_bytes",
                model=record.name,
                needed_bytes=need,
                available_bytes=free,
                reserve_bytes=plan.reserve_bytes,
            )

    def bytes_to_seat(self, model: str) -> int:
        """Memory that has to be available before this model is loaded, reserve included."""
        try:
            record = self.registry.get(model)
        except HotseatError:
            return 0  # refused when the worker starts, with the reason
        plan = self.plan(record, returned_bytes=0)
        return plan.weights_bytes + plan.overhead_bytes + plan.reserve_bytes

    def note_overhead(self, record: ModelRecord, overhead_bytes: int) -> bool:
        """Remembers the most that a worker held beside weights and KV; True if that is news."""
        known = self.overheads.get(record.tag, 0)
        if overhead_bytes <= known + OVERHEAD_STEP_BYTES:
            return False
        self.overheads[record.tag] = overhead_bytes
        return True

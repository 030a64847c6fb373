"""Whether a model may be seated, and with how much KV: registry, memory and plan put together.

Reads state only; the arithmetic is in `rules/plan.py`.
"""

import time
from typing import Final

import structlog
from msgspec.structs import replace

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import MIB
from hotseat.protocol.link_orders import Wiring
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.residence import StreamedView
from hotseat.protocol.streamed_contexts import ContextTrial, Reading
from hotseat.protocol.views import PlanView
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.machine.memory import MemoryProbe
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.models.registry import Registry
from hotseat.supervisor.models.rules.overhead import Overhead
from hotseat.supervisor.models.rules.plan import plan_elsewhere, plan_model
from hotseat.supervisor.models.rules.residence import (
    LEAST_READ_BYTES,
    ReadRate,
    tokens_per_s,
)
from hotseat.supervisor.models.rules.room import (
    bytes_to_load,
    bytes_to_seat,
    is_roomy,
    margin_bytes,
    room_bytes,
    shortage,
)
from hotseat.supervisor.models.rules.wiring import wiring, wiring_notice
from hotseat.supervisor.models.rules.working_set import WorkingSet, is_stale, limit_now
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
        self.overheads: dict[str, Overhead] = {}
        """Measured runtime overhead by tag."""
        self.trials: dict[str, ContextTrial] = {}
        """The newest of every model that was tried, by tag."""
        self.reading = ReadRate()
        """Bytes a second that the disk gave while weights were read as they were needed."""
        self._forced: set[str] = set()
        """Models that somebody wants whatever other programs hold, by name."""
        self._held: dict[str, int] = {}
        """What others of a control group held, and the reserve, when the last swap to a model began
        that has too little room beside them; by its name."""

    @property
    def wiring(self) -> Wiring:
        """What of the next model is wired."""
        return wiring(self.settings.memory.wire, self.own.panic_report)

    @property
    def wiring_notice(self) -> str:
        """That nothing is since a panic, and how to get it back; empty otherwise."""
        return wiring_notice(self.settings.memory.wire, self.own.panic_report)

    def machine(self) -> MachineMemory:
        """Memory of the machine now; what is held ready for weights counts as available.

        In a control group so does the standby, which the next worker is made of, also when it is
        that worker already and has no weights yet: there a process more or less decides.
        """
        machine, own = self.probe.machine(), self.own
        kept = own.ready_bytes
        if machine.in_group:
            kept = max(own.standby_bytes + own.taken_bytes, kept)
        return replace(
            machine,
            available_bytes=machine.available_bytes + kept,
            swappable_bytes=max(machine.swappable_bytes - kept, 0),
        )

    def measure_again(self) -> None:
        """Before a refusal: worker and standby may have grown since they were last measured."""
        own, probe = self.own, self.probe
        if own.worker_pid is not None:
            own.worker_bytes = probe.quick_footprint(own.worker_pid)
        pid = own.standby_pid
        own.standby_bytes = 0 if pid is None else probe.quick_footprint(pid) or 0

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
        in_any_case: bool = False,
        working_set_bytes: int | None = None,
        machine: MachineMemory | None = None,
        held_bytes: int | None = None,
    ) -> PlanView:
        """The memory plan of a model.

        `returned_bytes` is what the worker that has the seat now would give back: None is all it
        holds, 0 stands for a seat that was given up already. `in_any_case`: what other programs
        hold does not count, as for a model that was forced. `working_set_bytes`: of the process
        it is for; None is a fresh one. `machine`: as it was found just now, for whoever compares
        the plan with it. `held_bytes` by others beside whom it is read in part, forced or not; None
        is as the last swap to it began.
        """
        is_forced = held_bytes is None and record.name in self._forced
        if held_bytes is None:
            held_bytes = 0 if is_forced else self._held.get(record.name, 0)
        machine = replace(machine or self.machine(), held_bytes=held_bytes)
        measured = self._overhead_bytes(record)
        if returned_bytes is None:
            returned_bytes = self.own.returned_bytes
        return plan_model(
            record,
            machine,
            self.settings,
            own_footprint_bytes=returned_bytes,
            standby_bytes=self.own.standby_beside(record, in_group=machine.in_group),
            overhead_bytes=measured,
            overhead_measured=measured is not None,
            working_set_bytes=working_set_bytes
            or limit_now(self.own.working_set, machine.wired_limit_mb),
            holders=self.probe.holders(HOLDERS) if with_holders else (),
            in_any_case=in_any_case or is_forced,
            read_rate=self.reading.known(time.time()),
        )

    def plan_to_load(self, record: ModelRecord, working_set_bytes: int | None) -> PlanView:
        """For a fresh worker, once the memory that the gate waited for is there.

        What is idle in a control group may be in use by now: the model is read in part then.
        """
        if (pid := self.own.taken_pid) is not None:  # its tokenizer may have come since
            self.own.taken_bytes = self.probe.quick_footprint(pid) or self.own.taken_bytes
        plan = self.plan(record, returned_bytes=0, working_set_bytes=working_set_bytes)
        machine = self.machine()
        has_room = room_bytes(machine) >= plan.weights_bytes + margin_bytes(
            machine, plan.reserve_bytes
        )
        if has_room and is_roomy(record, plan, self.plan(record, in_any_case=True)):
            return plan
        if held := self._read_in_part_beside(record, 0):
            self._held[record.name] = held
            plan = self.plan(record, returned_bytes=0, working_set_bytes=working_set_bytes)
        return plan

    def plan_asked(self, record: ModelRecord, *, with_holders: bool = False) -> PlanView:
        """The plan of a swap that began now, for whoever only asks."""
        try:
            held = self.held_beside(record)
        except HotseatError:
            held = self._held.get(record.name, 0)
        return self.plan(record, with_holders=with_holders, held_bytes=held)

    def plan_elsewhere(
        self, record: ModelRecord, ram_bytes: int | None, working_set_bytes: int | None
    ) -> PlanView:
        """The plan on a machine of that size, with the overhead that was measured here."""
        return plan_elsewhere(
            record,
            ram_bytes or self.probe.machine().total_bytes,
            working_set_bytes,
            overhead_bytes=self._overhead_bytes(record),
        )

    def check(self, record: ModelRecord, *, force: bool = False) -> ModelRecord:
        """The record of a model if it can be seated; raises the typed refusal otherwise.

        `force`: only what no closed program would change counts.
        """
        if record.unfit_reason:
            raise HotseatError(
                "model_unavailable",
                f"{record.name} cannot be served: {record.unfit_reason}",
                model=record.name,
                architecture=record.architecture,
            )
        self.check_machine(record)
        if not force:
            self.held_beside(record)
        return record

    def begin(self, record: ModelRecord, *, force: bool) -> None:
        """How a swap to this model begins counts for its plans until the next one does.

        `force`: it is seated whole whatever others hold. Raises memory_pressure.
        """
        self._held[record.name] = 0 if force else self.held_beside(record)
        if force:
            self._forced.add(record.name)
        else:
            self._forced.discard(record.name)

    def check_machine(self, record: ModelRecord, working_set_bytes: int | None = None) -> PlanView:
        """The plan of a model whatever other programs hold; raises if it does not fit even so."""
        plan = self.plan(
            record, in_any_case=True, working_set_bytes=working_set_bytes, held_bytes=0
        )
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
        return plan

    def learn_working_set(self, size_bytes: int | None) -> None:
        """What Metal lets a process wire that starts now; None where there is no Metal."""
        if size_bytes is not None:
            switch = self.probe.machine().wired_limit_mb
            self.own.working_set = WorkingSet(size_bytes=size_bytes, switch_mb=switch)

    @property
    def is_working_set_stale(self) -> bool:
        """True when processes that were started before now have another limit than a fresh one."""
        return is_stale(self.own.working_set, self.probe.machine().wired_limit_mb)

    def held_beside(self, record: ModelRecord) -> int:
        """What others of a control group hold, if the model is to be read in part beside that.

        0: it has room as it is. What the memory gate will ask for has to be there, so that nothing
        is drained in vain: raises memory_pressure.
        """
        if self._find_room(record)[1]:
            return 0
        self.measure_again()
        error, is_enough = self._find_room(record)
        held = 0 if is_enough else self._read_in_part_beside(record, self.own.returned_bytes)
        if error is not None and not held:
            raise error
        return held

    def _find_room(self, record: ModelRecord) -> tuple[HotseatError | None, bool]:
        """Why it has too little now, if so, and whether it has enough for a session too."""
        machine, own = self.machine(), self.own.returned_bytes
        # Of the same look: where little has to do the plan takes all there is, to the byte.
        now = self.plan(record, machine=machine, held_bytes=0)
        whole = self.plan(record, machine=machine, held_bytes=0, in_any_case=True)
        plan = now if now.notice else whole  # where little has to do, what there is now decides
        needed = bytes_to_seat(record, plan, machine)
        if room_bytes(machine, own) < needed:
            return shortage(plan, needed, machine, own), False
        return None, not machine.in_group or is_roomy(record, now, whole)

    def _read_in_part_beside(self, record: ModelRecord, returned_bytes: int) -> int:
        """What others of the group hold, and the reserve once more; 0 where there is no room so.

        What is idle in a group counts as room, and is so by the moment.
        """
        machine = self.machine()
        if not machine.in_group:
            return 0
        room = room_bytes(machine, returned_bytes)
        left = room - self.settings.memory.reserve_for(machine)
        held = max(machine.total_bytes - left, 1)
        plan = self.plan(record, returned_bytes=returned_bytes, machine=machine, held_bytes=held)
        has_room = plan.fits and room >= bytes_to_seat(record, plan, machine)
        return held if has_room else 0

    def bytes_to_seat(self, model: str, machine: MachineMemory) -> int:
        """Room that there has to be before this model is loaded."""
        try:
            record = self.registry.get(model)
        except HotseatError:
            return 0  # refused when the worker starts, with the reason
        if record.name in self._forced:
            return 0
        return bytes_to_load(self.plan(record, returned_bytes=0, machine=machine), machine)

    def note_overhead(self, record: ModelRecord, overhead_bytes: int) -> bool:
        """Remembers what a quiet worker held beside what MLX has in use; True if that is news."""
        known = self.overheads.get(record.tag, Overhead())
        learnt = self.overheads[record.tag] = known.with_sample(overhead_bytes)
        before, after = known.size_bytes, learnt.size_bytes or 0
        return before is None or abs(after - before) >= OVERHEAD_STEP_BYTES

    def note_reading(self, read_bytes: int, seconds: float) -> None:
        """What a worker has read of its weights since it was seated."""
        if read_bytes >= LEAST_READ_BYTES and seconds > 0:
            self.reading = ReadRate(bytes_per_s=read_bytes / seconds, at=time.time())

    def streamed_now(self, view: StreamedView) -> StreamedView:
        """What was planned of a seated model, with the speed that the disk turned out to have."""
        speed = tokens_per_s(view.step_bytes, self.reading.known(time.time()))
        return view if speed is None else replace(view, tokens_per_s=round(speed, 3))

    def reading_now(self, reading: Reading) -> Reading:
        """The same of what reading contexts costs."""
        rate = self.reading.known(time.time())
        return reading if rate is None else replace(reading, bytes_per_s=rate)

    def _overhead_bytes(self, record: ModelRecord) -> int | None:
        known = self.overheads.get(record.tag)
        return None if known is None else known.size_bytes

"""What has to be available before a model loads, and what is. Pure.

The reserve is planned with (`plan.py`). Here it is asked for once more only where the system has
no level of pressure of its own: hotseat makes its level from what is left of the reserve there.
"""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.views import PlanView
from hotseat.supervisor.machine.figures import (
    Holder,
    LoadedElsewhere,
    MachineMemory,
    idle_bytes,
)
from hotseat.supervisor.models.rules.residence import why_not
from hotseat.supervisor.models.rules.sizes import LEAST_TOKENS, least_contexts, session_bytes

MARGIN_BYTES: Final = GIB
"""On macOS, over weights and overhead: what the system needs to go on while a model loads."""
_NORMAL: Final = 1
_SQUEEZED: Final = 2
"""Of idle memory of programs one part in so many counts as room: the rest is what compressing
leaves of it."""
_NAMED: Final = 3


def room_bytes(machine: MachineMemory, own_bytes: int = 0) -> int:
    """What a model could have. `own_bytes`: what hotseat's own worker would give back.

    While macOS calls its memory normal, half of what other programs have not touched for long
    counts too, since it is compressed as soon as somebody asks.
    """
    room = machine.available_bytes + own_bytes
    # Of a control group that may swap; weights of an idle worker may be among it.
    room += max(machine.swappable_bytes - own_bytes, 0)
    if machine.pressure != _NORMAL or machine.pages is None:
        return room
    # Weights of an idle worker are inactive memory of a program as well: they count once.
    return room + max(idle_bytes(machine.pages) - own_bytes, 0) // _SQUEEZED


def margin_bytes(machine: MachineMemory, reserve_bytes: int) -> int:
    """What has to be left when weights and overhead are in memory."""
    if machine.pressure is None:
        return reserve_bytes
    return min(MARGIN_BYTES, reserve_bytes)


def bytes_to_load(plan: PlanView, machine: MachineMemory) -> int:
    """What has to be there before the weights of a planned model are read."""
    margin = margin_bytes(machine, plan.reserve_bytes)
    return plan.weights_bytes + plan.overhead_bytes + margin


def least_bytes(record: ModelRecord, plan: PlanView, machine: MachineMemory) -> int:
    """What the planned model needs to answer in one session of the least length that counts."""
    fixed = plan.weights_bytes + plan.overhead_bytes + plan.standby_bytes
    if machine.in_group:
        contexts = least_contexts(record)
    else:
        contexts = session_bytes(record, min(LEAST_TOKENS, record.context_tokens))
    if plan.notice:  # less was promised
        contexts = min(contexts, plan.kv_budget_bytes)
    least = fixed + plan.prefill_peak_bytes + contexts
    if machine.in_group and why_not(record.parts, record.adapter):
        # Nothing of it can be read instead. What is borrowed of the reserve is swapped for it.
        return min(least, machine.total_bytes - plan.reserve_bytes)
    return least


def bytes_to_seat(record: ModelRecord, plan: PlanView, machine: MachineMemory) -> int:
    """What has to be there so that the planned model is loaded and answers."""
    return max(bytes_to_load(plan, machine), least_bytes(record, plan, machine))


def is_roomy(record: ModelRecord, plan: PlanView, at_most: PlanView) -> bool:
    """Whether others leave contexts the least session that counts, or all they may ever have."""
    wanted = min(least_contexts(record), at_most.kv_budget_bytes)
    return plan.fits and plan.kv_budget_bytes >= wanted


def beside_others(machine: MachineMemory, room: int) -> MachineMemory:
    """The machine with what others were found to hold in it, and nothing else.

    `room`: what there is now beyond the reserve; what others gave back since is had again.
    """
    left = machine.total_bytes - machine.held_bytes
    return replace(machine, available_bytes=max(left, room), swappable_bytes=0)


def shortage(plan: PlanView, needed_bytes: int, machine: MachineMemory, own: int) -> HotseatError:
    """The refusal of a model for which there is too little room now."""
    room = room_bytes(machine, own)
    margin = margin_bytes(machine, plan.reserve_bytes)
    return HotseatError(
        "memory_pressure",
        f"{plan.model} needs {needed_bytes / GIB:.1f} GiB and {room / GIB:.1f} GiB are available; "
        f"close other programs, or `hotseat swap {plan.model} --force`",
        model=plan.model,
        needed_bytes=needed_bytes,
        available_bytes=room,
        reserve_bytes=plan.reserve_bytes,
        spare_bytes=margin,
        pressure=machine.pressure,
    )


def named_shortage(
    error: HotseatError, others: Sequence[LoadedElsewhere], holders: Sequence[Holder]
) -> HotseatError:
    """The refusal with those who hold memory: models first, then programs, largest first."""
    facts = error.facts | {
        "others": [
            {
                "program": other.program,
                "model": other.model,
                "size_bytes": other.size_bytes,
                "command": other.command,
            }
            for other in others
        ],
        "holders": [[holder.name, holder.size_bytes] for holder in holders],
    }
    ways = f"close some, or `hotseat swap {error.facts['model']} --force`"
    if others:
        ways = f"`--unload-others` on `hotseat swap {error.facts['model']}` unloads the models, "
        ways += "`--force` loads all the same"
    held = [
        f"{other.model} in {other.program} ({other.size_bytes / GIB:.1f} GiB, `{other.command}`)"
        for other in others[:_NAMED]
    ]
    held += [f"{holder.name} ({holder.size_bytes / GIB:.1f} GiB)" for holder in holders[:_NAMED]]
    if not held:
        return HotseatError(error.code, error.message, **facts)
    before, _, _ = error.message.partition(";")
    text = f"{before}; largest holders: {', '.join(held)}; {ways}"
    return HotseatError(error.code, text, retry_after_s=error.retry_after_s, **facts)

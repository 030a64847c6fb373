"""What is planned with where a control group leaves a model little more than its weights. Pure.

There the default overhead, which was never measured, would refuse what runs; on a whole machine
that is not worth a model that may not fit.
"""

from typing import Final

from msgspec import Struct

from hotseat.protocol.limits import MIB
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.models.rules.sizes import sized

DEFAULT_OVERHEAD_BYTES: Final = 300 * MIB
"""Interpreter, libraries, Metal's own heaps; used until a load of the model was measured."""
LEAST_OVERHEAD_BYTES: Final = 80 * MIB
"""What the interpreter and the imported libraries take by themselves, as measured."""


class Needs(Struct, frozen=True, kw_only=True):
    """Sizes that a plan has to find room for, bytes.

    `free` is the limit less weights and prefill. `overhead` is None until it was measured.
    `ahead` of `free` has to be there beside the overhead before weights are read, whatever it is
    used for afterwards (`room.bytes_to_load`).
    `reserve` is the part of the reserve that the limit leaves out. `session` is the least session
    that is wanted, `block` the least that is of any use.
    """

    free: int
    overhead: int | None
    standby: int
    reserve: int
    session: int
    block: int
    ahead: int = 0
    tokenizer: int = 0
    """Part of the overhead, which is assumed no smaller."""


class Share(Struct, frozen=True, kw_only=True):
    """How `free` is shared out. `borrowed` of the reserve counts as free since it can be swapped.

    `notice` says that contexts get less than usual, and why; empty when they do not.
    """

    overhead: int
    standby: int
    borrowed: int = 0
    notice: str = ""

    def room(self, free: int) -> int:
        """What is left for contexts; negative when there is too little for all else."""
        return free + self.borrowed - self.overhead - self.standby


def share_out(needs: Needs, machine: MachineMemory) -> Share:
    """The usual shares; in a control group, smaller ones before a model is refused.

    First the overhead is assumed smaller, then contexts get less than one session. Where the group
    may swap, an idle standby and the reserve need not be in memory either.
    """
    least = LEAST_OVERHEAD_BYTES + needs.tokenizer
    usual = max(DEFAULT_OVERHEAD_BYTES, least) if needs.overhead is None else needs.overhead
    share = Share(overhead=usual, standby=needs.standby)
    bound = machine.bound
    if bound is None or not bound.is_group:
        return share
    is_assumed_too_large = needs.overhead is None and needs.free - usual < needs.ahead
    if share.room(needs.free) >= needs.session and not is_assumed_too_large:
        return share
    overhead = usual
    if needs.overhead is None:
        left = needs.free - max(needs.standby + needs.session, needs.ahead)
        overhead = max(min(left, usual), least)
    share = Share(overhead=overhead, standby=needs.standby)
    swap = bound.swap_bytes or 0
    lacking = needs.session - share.room(needs.free)
    if lacking > 0 and swap:
        standby = min(lacking, swap, needs.standby)
        borrowed = min(lacking - standby, swap - standby, needs.reserve)
        share = Share(overhead=overhead, standby=needs.standby - standby, borrowed=borrowed)
    if share.room(needs.free) < needs.block:
        return Share(overhead=overhead, standby=needs.standby)  # refused, with these numbers
    return Share(
        overhead=share.overhead,
        standby=share.standby,
        borrowed=share.borrowed,
        notice=_notice(share, needs, usual, str(bound)),
    )


def _notice(share: Share, needs: Needs, usual: int, bound: str) -> str:
    parts = [f"little room ({bound}): {sized(share.room(needs.free))} for contexts"]
    if share.overhead < usual:
        parts.append(f"overhead assumed as {sized(share.overhead)} instead of {sized(usual)}")
    swapped = share.borrowed + needs.standby - share.standby
    if swapped:
        parts.append(f"{sized(swapped)} of what is idle may have to be swapped")
    return "; ".join(parts)

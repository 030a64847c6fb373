"""The plan of a model that is read from the disk in part, as it is needed. Pure."""

from collections.abc import Callable
from typing import Final

from msgspec import structs

from hotseat.protocol.model import ModelRecord
from hotseat.protocol.residence import WeightParts
from hotseat.protocol.streamed_contexts import LEAST_TOKENS_PER_S
from hotseat.protocol.views import PlanView
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.models.rules.residence import (
    Seating,
    choose_residence,
    streamed_view,
    tokens_per_s,
    why_not,
)
from hotseat.supervisor.models.rules.room import margin_bytes, room_bytes
from hotseat.supervisor.models.rules.sizes import LEAST_TOKENS, least_contexts, session_bytes, sized

STREAMED_TOKENS: Final = 16_384
"""KV of one session of this length has room before more weights have. Alone it may be half as long:
a worker counts copies."""


def plan_streamed(
    record: ModelRecord,
    whole: PlanView,
    beside: PlanView,
    machine: MachineMemory,
    planned: Callable[..., PlanView],
    read_rate: float | None,
) -> PlanView:
    """The plan with a part of the weights in memory; `whole`, with the reason, if none fits.

    `beside`: the plan of all weights beside what others hold.
    What fits if only they held less is planned as if they did: whoever asks is told so.
    """
    if refused := why_not(record.parts, record.adapter):
        return _refused(whole, f"it cannot be read as it is needed: {refused}")
    assert record.parts is not None  # noqa: S101 - else refused
    view = whole
    for room in _rooms(record, whole, beside, machine):
        seating = choose_residence(record.parts, room)
        if seating is None:
            continue
        resident = structs.replace(record, weights_bytes=seating.resident_bytes)
        if planned(resident, in_any_case=True).fits:
            speed = tokens_per_s(seating.step_bytes, read_rate)
            view = _as_streamed(record.parts, whole, planned(resident), seating, speed)
            if view.residence is not None:
                return view
    return view


def _rooms(
    record: ModelRecord, whole: PlanView, beside: PlanView, machine: MachineMemory
) -> list[int]:
    """What may be in memory of the weights, the best choice first."""
    used = beside.standby_bytes + beside.prefill_peak_bytes
    long, least = (
        session_bytes(record, min(tokens, record.context_tokens))
        for tokens in (STREAMED_TOKENS, LEAST_TOKENS)
    )
    roomy = least_contexts(record)
    sessions = [used + contexts for contexts in (max(long, roomy), roomy, least)]
    alone = [whole.limit_bytes - beside.overhead_bytes - session for session in sessions]
    if not machine.held_bytes:
        return alone
    margin = margin_bytes(machine, beside.reserve_bytes)
    left = room_bytes(machine) - beside.overhead_bytes
    together = [left - max(session, margin) for session in sessions]
    rooms = [*map(min, alone, together)]
    return rooms if whole.fits else rooms + alone


def _refused(whole: PlanView, reason: str) -> PlanView:
    return whole if whole.fits else structs.replace(whole, reason=f"{whole.reason}; {reason}")


def _as_streamed(
    parts: WeightParts, whole: PlanView, view: PlanView, seating: Seating, speed: float | None
) -> PlanView:
    """What is said of it; a refusal where the disk is known to be too slow."""
    reading = f"{sized(seating.step_bytes)} from the disk for a token at most"
    if speed is not None:
        reading += f" ({speed:.2g} tokens a second)"
        if speed < LEAST_TOKENS_PER_S:
            reason = f"read as it is needed it would take {reading},"
            return _refused(whole, f"{reason} {LEAST_TOKENS_PER_S:g} a second are the least")
    held = streamed_view(parts, seating.residence, seating.step_bytes, speed).words
    others = " beside what other programs hold" if whole.fits else ""
    words = f"it does not fit whole{others}: {held}, {reading}"
    return structs.replace(
        view,
        residence=seating.residence,
        step_bytes=seating.step_bytes,
        tokens_per_s=speed,
        notice="; ".join(part for part in (words, view.notice) if part),
    )

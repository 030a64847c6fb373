"""What of a model that does not fit is held, and what is read with each step. Pure.

Layers: as many as there is room for stay, the others are spread evenly between them, so that
reading never rests. Experts: the same number of slots in every layer that has some, since one pool
for all has a cliff where a token needs more than it holds.
"""

from typing import Final

from msgspec import Struct

from hotseat.protocol.model import ModelRecord
from hotseat.protocol.residence import (
    SORTED_FROM,
    Residence,
    StreamedView,
    WeightParts,
    resident_bytes,
    spread_evenly,
)
from hotseat.protocol.streamed_contexts import ROOMS
from hotseat.protocol.views import PlanView

SLOW_TOKENS_PER_S: Final = 1.0
"""A model that is slower says so before it answers, and does not keep others waiting for long."""
LEAST_READ_BYTES: Final = 1 << 30
"""Less says little of the disk: its first pieces may have come from a cache."""
KNOWN_FOR_S: Final = 86_400.0
"""A rate that is older refuses no model: disks are slow for a while, and models lie on others."""
UNKNOWN_CHOSEN: Final = 8
"""Experts a token, where the configuration does not say: as many as large models have."""


class ReadRate(Struct, frozen=True, kw_only=True):
    """How fast weights were read, and when (Unix time); 0: never."""

    bytes_per_s: float = 0.0
    at: float = 0.0

    def known(self, now: float) -> float | None:
        """Bytes a second to plan with; None where that was never measured, or too long ago."""
        is_fresh = self.bytes_per_s > 0 and now - self.at < KNOWN_FOR_S
        return self.bytes_per_s if is_fresh else None


class Seating(Struct, frozen=True, kw_only=True):
    """A residence and what it comes to, bytes. `step_bytes`: read for one token, at most."""

    residence: Residence
    resident_bytes: int
    step_bytes: int


def tokens_per_s(step_bytes: int, read_rate: float | None) -> float | None:
    """Where the disk gives so many bytes a second and all of a step is read; None: not known.

    What it takes to compute comes on top, in turn or at the same time.
    """
    return None if read_rate is None else read_rate / max(step_bytes, 1)


def streamed_view(
    parts: WeightParts, residence: Residence, step_bytes: int, speed: float | None
) -> StreamedView:
    """What of a model is in memory and what a token costs, for whoever asks."""
    is_layers = residence.mode == "layers"
    count = len(parts.layers)
    return StreamedView(
        mode=residence.mode,
        held=count - len(residence.streamed) if is_layers else residence.slots,
        of=count if is_layers else parts.expert_count,
        resident_bytes=resident_bytes(parts, residence),
        step_bytes=step_bytes,
        tokens_per_s=None if speed is None else round(speed, 3),
    )


def streamed_of(record: ModelRecord, plan: PlanView) -> StreamedView | None:
    """The same of a plan; None where all is in memory, or nothing."""
    if record.parts is None or plan.residence is None:
        return None
    return streamed_view(record.parts, plan.residence, plan.step_bytes, plan.tokens_per_s)


def is_slow(speed: float | None) -> bool:
    """Whether whoever asks should be told before it waits."""
    return speed is not None and speed < SLOW_TOKENS_PER_S


def choose_residence(parts: WeightParts, room_bytes: int) -> Seating | None:
    """The most that fits into the room; None where nothing does or nothing can be read apart.

    Experts come first: of them a token needs a few, of layers it needs all.
    """
    return _experts(parts, room_bytes) or _layers(parts, room_bytes)


def why_not(parts: WeightParts | None, adapter: str) -> str:
    """Why a model is not read as it is needed, whatever its room; empty if it could be."""
    if adapter:
        return "an adapter changes its layers, which are whole in memory then"
    if parts is None:
        return "it was registered by an older version; import it again"
    if parts.layers_refused and (parts.experts_refused or not parts.expert_count):
        return parts.layers_refused
    return ""


def _experts(parts: WeightParts, room: int) -> Seating | None:
    if not parts.expert_count or parts.experts_refused:
        return None
    fixed = parts.total - sum(parts.experts)
    one = [size // parts.expert_count for size in parts.experts]
    chosen = parts.chosen or min(UNKNOWN_CHOSEN, parts.expert_count)
    for rooms in (min(ROOMS, len(parts.experts)), 1):
        held = fixed + rooms * max(parts.experts)
        slots = min((room - held) // sum(one), parts.expert_count)
        if slots >= chosen:
            residence = Residence(
                mode="experts",
                slots=slots,
                rooms=rooms,
                rows=max(min(slots, SORTED_FROM - 1) // chosen, 1),
            )
            return Seating(
                residence=residence,
                resident_bytes=resident_bytes(parts, residence),
                step_bytes=chosen * sum(one),
            )
    return None


def _layers(parts: WeightParts, room: int) -> Seating | None:
    if parts.layers_refused or not parts.layers:
        return None
    count = len(parts.layers)
    for streamed in range(1, count + 1):
        chosen = spread_evenly(count, streamed)
        residence = Residence(mode="layers", streamed=chosen, rooms=min(ROOMS, streamed))
        resident = resident_bytes(parts, residence)
        if resident <= room:
            return Seating(
                residence=residence,
                resident_bytes=resident,
                step_bytes=sum(parts.layers[number] for number in chosen),
            )
    return None

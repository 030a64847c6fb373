"""How long a context may be that is read from the disk with every token, and how slow. Pure."""

from msgspec import structs

from hotseat.protocol.live_contexts import stays_in_memory
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.streamed_contexts import (
    Reading,
    longest_streamed,
    place_context,
    why_contexts_stay,
)
from hotseat.protocol.views import PlanView


def with_long_contexts(record: ModelRecord, view: PlanView, read_rate: float | None) -> PlanView:
    """The plan with the longest context at the speed that the disk allows.

    `read_rate`: bytes a second that it gave when something was read as it was needed last.
    """
    reading = Reading(bytes_per_s=read_rate or 0.0, weights_bytes=view.step_bytes)
    longest = longest_streamed(record, view.kv_budget_bytes, reading) if view.fits else 0
    return structs.replace(view, contexts=reading, streamed_context_tokens=longest)


def context_speed(
    record: ModelRecord, tokens: int, budget_bytes: int, reading: Reading | None
) -> float | None:
    """Tokens a second at most over a prompt of so many tokens that is not whole in memory.

    0: it has no room even so. None where it is whole, and where the disk's rate is not known.
    """
    if reading is None or not reading.bytes_per_s or why_contexts_stay(record):
        return None
    if stays_in_memory(record, tokens + 1, budget_bytes):
        return None
    place = place_context(record, tokens, budget_bytes)
    return 0.0 if place is None else place.tokens_per_s(reading)

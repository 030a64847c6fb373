"""How long a context may be that is read from the disk with every token. Pure."""

from msgspec import structs

from hotseat.protocol.model import ModelRecord
from hotseat.protocol.streamed_contexts import Reading, longest_streamed
from hotseat.protocol.views import PlanView


def with_long_contexts(record: ModelRecord, view: PlanView, read_rate: float | None) -> PlanView:
    """The plan with the longest context at the speed that the disk allows.

    `read_rate`: bytes a second that it gave when something was read as it was needed last.
    """
    reading = Reading(bytes_per_s=read_rate or 0.0, weights_bytes=view.step_bytes)
    longest = longest_streamed(record, view.kv_budget_bytes, reading) if view.fits else 0
    return structs.replace(view, contexts=reading, streamed_context_tokens=longest)

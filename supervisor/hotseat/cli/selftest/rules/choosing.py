"""Which registered model a run takes when nobody named one. Reads no files."""

from collections.abc import Sequence

from hotseat.protocol.limits import GIB
from hotseat.protocol.model import ModelRecord

ROOM_BYTES = 3 * GIB
"""Beside the weights: libraries, contexts of a few thousand tokens, a standby."""


def largest_that_fits(records: Sequence[ModelRecord], available_bytes: int) -> ModelRecord | None:
    """None: the small one that every run makes has to do."""
    fitting = [
        record
        for record in records
        if not record.unfit_reason and record.weights_bytes + ROOM_BYTES <= available_bytes
    ]
    return max(fitting, key=lambda record: (record.weights_bytes, record.name), default=None)

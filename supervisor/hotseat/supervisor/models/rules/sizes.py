"""Sizes that plans count with and speak of. Pure."""

from typing import Final

from hotseat.protocol.limits import GIB, MIB
from hotseat.protocol.live_contexts import padded
from hotseat.protocol.model import STATES_HELD, ModelRecord

LEAST_TOKENS: Final = 2048
"""A model fits when one session of this length (or its whole context) has room."""


def session_bytes(record: ModelRecord, tokens: int) -> int:
    """Live KV of one session: full layers grow by whole blocks, the others do not.

    Recurrent state counts with the snapshot that is kept beside it.
    """
    return record.kv_bytes(padded(tokens)) + (STATES_HELD - 1) * record.state_bytes


def sized(size_bytes: int) -> str:
    """For people."""
    if size_bytes < GIB:
        return f"{size_bytes / MIB:.1f} MiB"
    return f"{size_bytes / GIB:.2f} GiB"

"""Sizes that plans count with and speak of. Pure."""

from typing import Final

from hotseat.protocol.limits import GIB, MIB
from hotseat.protocol.live_contexts import alone_bytes, padded
from hotseat.protocol.model import STATES_HELD, ModelRecord
from hotseat.protocol.streamed_contexts import held_with, streamable_entries, why_contexts_stay

LEAST_TOKENS: Final = 2048
"""A model fits when one session of this length (or its whole context) has room."""
DEFAULT_STANDBY_BYTES: Final = 80 * MIB
"""An idle process with the libraries imported, as measured."""


def session_bytes(record: ModelRecord, tokens: int) -> int:
    """Live KV of one session: full layers grow by whole blocks, the others do not.

    Recurrent state counts with the snapshot that is kept beside it.
    """
    return record.kv_bytes(padded(tokens)) + (STATES_HELD - 1) * record.state_bytes


def least_contexts(record: ModelRecord, tokens: int = LEAST_TOKENS) -> int:
    """The least KV with which a worker takes a context of this length, or as long as any may be.

    A session of it has room then, and so have the copies of what is not read from the disk. What
    is, has to be allowed to reach the disk, as contexts are unless somebody says otherwise.
    """
    tokens = min(tokens, record.context_tokens)
    alone = alone_bytes(record, tokens)
    if not why_contexts_stay(record):
        read = held_with(record, tokens, streamable_entries(record.layers))
        alone = min(alone, read.held_bytes)
    return max(alone, session_bytes(record, tokens))


def sized(size_bytes: int) -> str:
    """For people."""
    if size_bytes < GIB:
        return f"{size_bytes / MIB:.1f} MiB"
    return f"{size_bytes / GIB:.2f} GiB"

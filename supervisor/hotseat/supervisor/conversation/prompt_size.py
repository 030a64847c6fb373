"""How long a prompt can be at most, and how much of it is stored. Pure."""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from hotseat.protocol.ids import BlockId
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link_orders import AppendInput, TailRef, TextInput, TokensInput, WholeInput
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.tokens import pack_tokens, root_id
from hotseat.supervisor.conversation.cuts import TOKEN_BYTES, shared_prefix
from hotseat.supervisor.conversation.intake import Intake

TEMPLATE_TOKENS: Final = 1024
"""More than templates of today add of their own, default system texts included."""
MESSAGE_TOKENS: Final = 64
"""More than they put around one message."""


class StoredUnder(Struct, frozen=True):
    """Blocks of a chain that are stored, and what hangs on the last of them or before."""

    count: int
    tails: tuple[TailRef, ...]


def most_tokens(intake: Intake) -> int:
    """No tokenizer makes more of it: every token of text stands for at least one byte."""
    held = len(intake.context) // TOKEN_BYTES
    match intake.input:
        case TokensInput(tokens=tokens):
            return held + len(tokens) // TOKEN_BYTES
        case TextInput(text=text):
            return held + len(text.encode()) + MESSAGE_TOKENS
        case WholeInput(messages=messages) | AppendInput(messages=messages):
            is_whole = isinstance(intake.input, WholeInput)
            size = sum(len(msgspec.json.encode(message)) for message in messages)
            size += MESSAGE_TOKENS * len(messages) + TEMPLATE_TOKENS
            size += len(msgspec.json.encode(intake.framing))
            return size if is_whole else held + size


def known_tokens(intake: Intake) -> int:
    """What it comes to without the text that nobody has counted yet.

    A history that is rendered anew comes to about what the session held of it.
    """
    held = len(intake.context) // TOKEN_BYTES
    match intake.input:
        case TokensInput(tokens=tokens):
            return held + len(tokens) // TOKEN_BYTES
        case WholeInput():
            return held if intake.base.messages else 0
        case TextInput() | AppendInput():
            return held


def longest_stored(
    record: ModelRecord,
    tokens: Sequence[int],
    chain: Sequence[BlockId],
    count: int,
    tails: Sequence[TailRef],
) -> int:
    """The longest stored prefix of `tokens` that the caches of the model can be restored to."""
    cuts = record.capabilities.cuts
    starts = {block: index + 1 for index, block in enumerate(chain[:count])}
    starts[root_id(record.tag)] = 0
    best = 0 if cuts == "snapshots" else count * BLOCK_TOKENS
    packed = pack_tokens(tokens)
    for tail in tails:
        if tail.parent not in starts:
            continue
        start = starts[tail.parent] * BLOCK_TOKENS
        shared = shared_prefix(tail.tokens, packed[start * TOKEN_BYTES :])
        if cuts == "tokens" or shared == len(tail.tokens) // TOKEN_BYTES:
            best = max(best, start + shared)
    return best

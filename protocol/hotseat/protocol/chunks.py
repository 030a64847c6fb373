"""How many tokens of a prompt are fed at once, by how many are before them. Pure.

Both sides ask it: the supervisor what memory that takes, the worker what to do.
"""

from typing import Final

from hotseat.protocol.limits import BLOCK_TOKENS

LONG_TOKENS: Final = 16_384
"""From here on a chunk is half as long: attention over the past makes each token dearer, and a GPU
gives up on work that takes it seconds."""
LONGEST_TOKENS: Final = 49_152
"""From here on a chunk is one block."""
SCORED_TOKENS: Final = 8192
"""Where scores of attention are stored a chunk is half as long from here on, and again wherever
the past is twice as long: so the scores of a chunk never take more than here."""
LEAST_SCORED: Final = 16
"""No chunk gets shorter than that: the weights are read for each."""


def chunk_at(chunk: int, position: int, *, stores_scores: bool = False) -> int:
    """Tokens that are fed at once from `position` on, of a model with this chunk.

    A multiple or a divisor of a block. `stores_scores`: attention over several queries does.
    """
    size = _by_time(chunk, position)
    if not stores_scores:
        return size
    halvings = (position // SCORED_TOKENS).bit_length()
    most = max(chunk >> halvings, min(LEAST_SCORED, chunk))
    whole = most - most % BLOCK_TOKENS or 1 << most.bit_length() - 1
    return min(size, whole)


def next_change(position: int, *, stores_scores: bool = False) -> int | None:
    """Where chunks get shorter next; None: nowhere."""
    marks = [LONG_TOKENS, LONGEST_TOKENS]
    if stores_scores:
        marks.append(SCORED_TOKENS << (position // SCORED_TOKENS).bit_length())
    return min((mark for mark in marks if mark > position), default=None)


def most_scores(chunk: int, context_tokens: int) -> int:
    """Most scores that a head has for one chunk, wherever it lies in a context of that length."""
    least = min(LEAST_SCORED, chunk)
    return max(chunk * min(context_tokens, SCORED_TOKENS), least * context_tokens)


def _by_time(chunk: int, position: int) -> int:
    if chunk <= BLOCK_TOKENS or position >= LONGEST_TOKENS:
        return BLOCK_TOKENS
    if position >= LONG_TOKENS:
        half = chunk // 2
        return max(BLOCK_TOKENS, half - half % BLOCK_TOKENS)
    return chunk

"""Where a prompt leaves what others stored, and how the two go on. Must not know caches or files.

A client that sends text back which a model sampled may get other ids for the same text; then the
prefix ends there, and nobody would see why.
"""

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from hotseat.protocol.ids import BlockId
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link_reports import Diverged
from hotseat.protocol.tokens import unpack_tokens
from hotseat.worker.batch.turn import Turn
from hotseat.worker.context.live import LiveSession
from hotseat.worker.context.steps import common_prefix

PIECE_TOKENS: Final = 16
"""How much of both sides is told."""


class Leaving(Struct, frozen=True):
    """Both pieces begin at `position`, the first token that differs."""

    position: int
    held: list[int]
    given: list[int]


def find_leaving(prompt: list[int], candidates: Iterable[tuple[int, list[int]]]) -> Leaving | None:
    """The latest place where the prompt leaves a stored sequence; None if it continues one.

    A candidate is `(start, tokens)`: tokens that are stored behind the first `start` of the
    prompt. None also when nothing is shared.
    """
    best = 0
    found: Leaving | None = None
    for start, tokens in candidates:
        shared = start + common_prefix(tokens, prompt[start:])
        if shared == 0 or shared < best:
            continue
        if shared in (start + len(tokens), len(prompt)):
            if shared >= best:
                best, found = shared, None
            continue
        if shared > best:
            best = shared
            held = tokens[shared - start : shared - start + PIECE_TOKENS]
            found = Leaving(shared, held, prompt[shared : shared + PIECE_TOKENS])
    return found


def is_same_text(held: str, given: str) -> bool:
    """True if one text is the beginning of the other: only the tokens differ."""
    return bool(held) and bool(given) and (held.startswith(given) or given.startswith(held))


def leaving_report(
    turn: Turn, root: BlockId, live: LiveSession | None, decode: Callable[[list[int]], str]
) -> Diverged | None:
    """What is told about a request without a context of its own; None if there is nothing.

    Unlike conversations share the first words of a template: that is no news unless the texts are
    the same or a whole block was.
    """
    if turn.start.resume is not None or turn.context:
        return None
    candidates: list[tuple[int, list[int]]] = []
    if live is not None:
        candidates.append((0, live.trace.tokens))
    if turn.known is not None:
        starts = {block: index + 1 for index, block in enumerate(turn.chain)} | {root: 0}
        candidates += [
            (starts[tail.parent] * BLOCK_TOKENS, unpack_tokens(tail.tokens))
            for tail in turn.known.tails
            if tail.parent in starts
        ]
    found = find_leaving(turn.ids, candidates)
    if found is None:
        return None
    held, given = decode(found.held), decode(found.given)
    same_text = is_same_text(held, given)
    if not same_text and found.position < BLOCK_TOKENS:
        return None
    return Diverged(
        request=turn.start.request,
        position=found.position,
        held=held,
        given=given,
        same_text=same_text,
    )

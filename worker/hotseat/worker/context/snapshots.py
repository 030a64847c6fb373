"""Where a model with recurrent layers gets snapshots, and which stored ones serve a prompt.

A recurrent state cannot be cut back to an earlier token, so it is kept at the places that later
prompts are likely to share. Pure but for rendering. Must not know caches, lanes or files.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import Final

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import BlockId
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link_orders import AppendInput, Known, Start, TailRef, WholeInput
from hotseat.protocol.messages import Message
from hotseat.protocol.tokens import unpack_tokens
from hotseat.worker.context.steps import common_prefix
from hotseat.worker.text.rendering import Renderer

DECODED_TOKENS: Final = 1024
"""A snapshot is made each time this many tokens were decoded."""
_SYSTEM_ROLES: Final = ("system", "developer")
_UNLIKE_USERS: Final = (
    Message(role="user", content="Which word comes first?"),
    Message(role="user", content="7 stones"),
)


def wanted_positions(renderer: Renderer, start: Start, prompt: list[int]) -> frozenset[int]:
    """Behind the system prompt and before the generation prompt; without them, at the end.

    The last token of a prompt starts the generation, so the end is one before it.
    """
    last = len(prompt) - 1
    wanted = {last}
    if isinstance(start.input, WholeInput | AppendInput):
        wanted = {
            _system_end(renderer, start, prompt),
            _generation_start(renderer, start, prompt) or last,
        }
    return frozenset(position for position in wanted if 0 < position <= last)


def is_due(position: int, prompt_tokens: int) -> bool:
    """True if so many tokens were decoded by now that a snapshot is due."""
    decoded = position - prompt_tokens
    return decoded > 0 and decoded % DECODED_TOKENS == 0


def stored_positions(
    prompt: list[int], root: BlockId, chain: Sequence[BlockId], known: Known
) -> dict[int, TailRef]:
    """Stored snapshots (and tails) that are a prefix of `prompt`, by how many tokens that is.

    `chain` are the blocks of the prompt; only those that `known` leases count.
    """
    starts = {block: (index + 1) for index, block in enumerate(chain[: known.count])} | {root: 0}
    found: dict[int, TailRef] = {}
    for ref in known.tails:
        if ref.parent not in starts:
            continue
        begin = starts[ref.parent] * BLOCK_TOKENS
        tokens = unpack_tokens(ref.tokens)
        position = begin + len(tokens)
        if position and prompt[begin:position] == tokens:
            found.setdefault(position, ref)
    return found


def _system_end(renderer: Renderer, start: Start, prompt: list[int]) -> int:
    """How far two dialogues that differ from the first user message on agree with the prompt."""
    if start.context or not isinstance(start.input, WholeInput | AppendInput):
        # The session began with it, or its history was rendered; either way the stored one serves.
        return 0
    system = list(takewhile(lambda one: one.role in _SYSTEM_ROLES, start.input.messages))
    first, second = (_rendered(renderer, start, [*system, user]) for user in _UNLIKE_USERS)
    return common_prefix(prompt, first[: common_prefix(first, second)])


def _generation_start(renderer: Renderer, start: Start, prompt: list[int]) -> int:
    """Where the generation prompt begins, 0 if the prompt does not end with it."""
    user = _UNLIKE_USERS[0]
    bare = _rendered(renderer, start, [user], generation_prompt=False)
    added = _rendered(renderer, start, [user])[len(bare) :]
    if not added or prompt[-len(added) :] != added:
        return 0
    return len(prompt) - len(added)


def _rendered(
    renderer: Renderer, start: Start, messages: list[Message], *, generation_prompt: bool = True
) -> list[int]:
    try:
        return renderer.render(
            messages,
            start.clock,
            generation_prompt=generation_prompt,
            tools=start.tools,
            arguments=start.template_args,
        )
    except HotseatError:
        return []

"""Which stored blocks and tail give a prompt its longest prefix, and what the result is worth.

Pure but for building the caches. Must not know lanes or budgets.
"""

from typing import Any

from msgspec import Struct

from hotseat.protocol.ids import BlockId
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link import Known, TailRef
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.tokens import pack_tokens, root_id, unpack_tokens
from hotseat.worker.capture import rebuild_caches
from hotseat.worker.reader import BlockToRead, RestoreResult
from hotseat.worker.steps import Hint, StepLog, common_prefix, cut_steps, decode_hint, rings_at
from hotseat.worker.trace import Trace


class RestorePlan(Struct, frozen=True):
    """Blocks to read, a tail behind them, and how many tokens that is."""

    blocks: list[BlockToRead]
    tail: TailRef | None
    position: int


def plan_restore(
    record: ModelRecord, prompt: list[int], chain: list[BlockId], known: Known
) -> RestorePlan:
    """The longest prefix of `prompt` without its last token that is stored."""
    count = min(known.count, len(chain))
    root = root_id(record.tag)
    blocks: list[BlockToRead] = [
        (
            chain[index],
            chain[index - 1] if index else root,
            pack_tokens(prompt[index * BLOCK_TOKENS : (index + 1) * BLOCK_TOKENS]),
        )
        for index in range(count)
    ]
    parent = chain[count - 1] if count else root
    rest = prompt[count * BLOCK_TOKENS : len(prompt) - 1]
    # A window cannot be cut back to an earlier token, so there a tail counts as a whole.
    is_cuttable = all(layer.kind == "full" for layer in record.layers)
    best, chosen = 0, None
    for tail in known.tails:
        if tail.parent != parent:
            continue
        tokens = unpack_tokens(tail.tokens)
        shared = common_prefix(tokens, rest)
        if shared > best and (is_cuttable or shared == len(tokens)):
            best, chosen = shared, tail
    return RestorePlan(blocks, chosen, count * BLOCK_TOKENS + best)


class Restored(Struct, frozen=True):
    """Caches of one sequence and what is in them."""

    caches: list[Any]
    trace: Trace


def rebuild_sequence(
    record: ModelRecord,
    prompt: list[int],
    plan: RestorePlan,
    result: RestoreResult,
    hint: Hint | None,
) -> Restored | None:
    """What was read becomes caches; None if nothing of it can be used.

    `hint` is the session's, if it speaks of this prompt.
    """
    payloads = result.payloads
    position = len(payloads) * BLOCK_TOKENS
    boundary = position
    if result.tail is not None:
        position = plan.position
    if position == 0:
        return None
    if result.tail is not None:
        told = decode_hint(result.tail.hint)
        rings = rings_at(told, position)
        steps = _tail_steps(told, boundary, position)
        log = StepLog(position, steps, rings_at(told, boundary))
        payloads = [*payloads, result.tail]
    else:
        rings = rings_at(hint, position) or rings_at(decode_hint(payloads[-1].hint), position)
        log = StepLog(position, (), rings)
    caches = rebuild_caches(record, payloads, position, rings)
    trace = Trace(record.tag, prompt[:position], log, stored_blocks=len(result.payloads))
    return Restored(caches, trace)


def _tail_steps(told: Hint | None, boundary: int, position: int) -> list[tuple[int, int]]:
    if told is None or told.boundary != boundary:
        return []
    return cut_steps(told.steps, position - boundary)

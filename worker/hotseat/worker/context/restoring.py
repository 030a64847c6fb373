"""Which stored blocks and tail give a prompt its longest prefix, and what the result is worth.

Pure but for building the caches. Must not know lanes or budgets.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import Struct

from hotseat.protocol.ids import BlockId
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link_orders import Known, TailRef
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.tokens import pack_tokens, root_id, unpack_tokens
from hotseat.worker.context.capture import MakeCache, Room, rebuild_caches
from hotseat.worker.context.snapshots import stored_positions
from hotseat.worker.context.steps import (
    HINT_VERSION,
    Hint,
    StepLog,
    common_prefix,
    cut_steps,
    decode_hint,
    rings_at,
)
from hotseat.worker.context.trace import Snapshot, Trace
from hotseat.worker.store.reader import BlockToRead, RestoreResult


class RestorePlan(Struct, frozen=True):
    """Blocks to read, a tail or snapshot behind them, and how many tokens that is.

    `chain` are the blocks of the whole prompt, read or not, without its last token.
    """

    blocks: list[BlockToRead]
    tail: TailRef | None
    position: int
    chain: list[BlockId]
    snapshots_at: frozenset[int] = frozenset()
    """With recurrent layers: all positions in the prompt whose snapshots are stored."""


NOTHING_STORED: Final = RestorePlan([], None, 0, [])


def plan_restore(
    record: ModelRecord, prompt: list[int], chain: list[BlockId], known: Known
) -> RestorePlan:
    """The longest prefix of `prompt` without its last token that is stored.

    With recurrent layers that is the longest one with a snapshot.
    """
    root = root_id(record.tag)
    if record.is_recurrent:
        stored = stored_positions(prompt, root, chain, known)
        position = max((one for one in stored if one < len(prompt)), default=0)
        count = position // BLOCK_TOKENS
        keeps_tokens = any(layer.kind != "state" for layer in record.layers)
        blocks = _blocks(prompt, root, chain, count if keeps_tokens else 0)
        return RestorePlan(blocks, stored.get(position), position, chain, frozenset(stored))
    count = min(known.count, len(chain))
    blocks = _blocks(prompt, root, chain, count)
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
    return RestorePlan(blocks, chosen, count * BLOCK_TOKENS + best, chain)


def without_damaged(known: Known, plan: RestorePlan, result: RestoreResult) -> Known | None:
    """What is still known after a restore of `plan` fell short; None if that was all.

    Without its tail a restore of recurrent layers is worth nothing, an earlier snapshot may be.
    """
    if plan.tail is None:
        return None
    count = known.count
    if len(result.payloads) < len(plan.blocks):
        count = min(count, len(result.payloads))
    tails = tuple(tail for tail in known.tails if tail.file != plan.tail.file)
    return Known(request=known.request, count=count, tails=tails)


def _blocks(
    prompt: list[int], root: BlockId, chain: list[BlockId], count: int
) -> list[BlockToRead]:
    return [
        (
            chain[index],
            chain[index - 1] if index else root,
            pack_tokens(prompt[index * BLOCK_TOKENS : (index + 1) * BLOCK_TOKENS]),
        )
        for index in range(count)
    ]


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
    room: Room | None = None,
    in_files: Mapping[int, MakeCache] = MappingProxyType({}),
) -> Restored | None:
    """What was read becomes caches; None if nothing of it can be used.

    `hint` is the session's, if it speaks of this prompt. `room`: memory for it, from before. Blocks
    of the cache entries `in_files` stay there.
    """
    if record.is_recurrent:
        return _rebuild_recurrent(record, prompt, plan, result, room, in_files)
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
    caches = rebuild_caches(record, payloads, position, rings, room, in_files)
    trace = Trace(record.tag, prompt[:position], log, len(result.payloads), plan.chain)
    return Restored(caches, trace)


def _rebuild_recurrent(
    record: ModelRecord,
    prompt: list[int],
    plan: RestorePlan,
    result: RestoreResult,
    room: Room | None,
    in_files: Mapping[int, MakeCache],
) -> Restored | None:
    tail, position = result.tail, plan.position
    if tail is None or len(result.payloads) < len(plan.blocks):
        return None
    told = decode_hint(tail.hint)
    if told is None or told.position != position:
        told = Hint(HINT_VERSION, position, position)
    rings = rings_at(told, position)
    caches = rebuild_caches(record, [*result.payloads, tail], position, rings, room, in_files)
    log = StepLog(position, told.steps, rings, since=told.boundary)
    stored = position // BLOCK_TOKENS
    trace = Trace(record.tag, prompt[:position], log, stored, plan.chain, is_recurrent=True)
    trace.snapshot = Snapshot(position, tail.states)
    trace.snapshots_at.add(position)
    return Restored(caches, trace)


def _tail_steps(told: Hint | None, boundary: int, position: int) -> list[tuple[int, int]]:
    if told is None or told.boundary != boundary:
        return []
    return cut_steps(told.steps, position - boundary)

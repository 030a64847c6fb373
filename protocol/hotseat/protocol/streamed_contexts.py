"""Contexts that do not fit into memory: which layers' K and V are read with every step. Pure.

Both sides ask it: the supervisor what to promise, the worker what to do.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from msgspec import Struct

from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.live_contexts import cache_bytes, padded, token_bytes
from hotseat.protocol.model import LayerSpec, ModelRecord

LEAST_TOKENS_PER_S: Final = 0.2
"""What is slower is refused with the number: nobody waits five seconds for a token."""
ROOMS: Final = 2
"""One computes while the other is read. A third gained up to a tenth, for one more layer."""


class Reading(Struct, frozen=True, kw_only=True):
    """What the disk gives, bytes a second (0: nobody knows), and what it is asked for anyway.

    `weights_bytes`: weights read with every step, of a model that is not whole in memory.
    """

    bytes_per_s: float = 0.0
    weights_bytes: int = 0


class ContextPlace(Struct, frozen=True, kw_only=True):
    """Where the KV of one context is: `streamed` cache entries are read with every step.

    `held_bytes`: in memory at the worst moment. `step_bytes`: KV read for one token.
    """

    streamed: tuple[int, ...]
    held_bytes: int
    step_bytes: int

    def tokens_per_s(self, reading: Reading) -> float | None:
        """At most so many, of what reading takes; None where the disk's rate is not known."""
        if not reading.bytes_per_s:
            return None
        return reading.bytes_per_s / max(self.step_bytes + reading.weights_bytes, 1)


class ContextTrial(Struct, frozen=True, kw_only=True):
    """What trying a model's code once has shown, for the versions it was tried with.

    `why`: why its contexts stay in memory; empty if they need not.
    """

    under: str
    why: str = ""


def why_contexts_stay(record: ModelRecord) -> str:
    """Why a model's contexts are not read as they are needed; empty if they can be."""
    if record.parts is None:
        return "it was registered by an older version; import it again"
    groups = [layer.group for layer in record.layers]
    entries = groups.count(None) + len({group for group in groups if group is not None})
    if len(record.parts.layers) != entries:
        return "not each of its layers has a context of its own"
    if not streamable_entries(record.layers):
        return "none of its layers keeps every token in a cache of its own"
    return ""


def streamable_entries(layers: tuple[LayerSpec, ...]) -> list[int]:
    """Cache entries that keep every token, each the only such one of its layer, ascending.

    Of two in one layer the first would still be in use when the second asks for its room.
    """
    groups = Counter(layer.group for layer in layers if layer.kind == "full")
    return [
        entry
        for entry, layer in enumerate(layers)
        if layer.kind == "full"
        and layer.k_dim
        and layer.v_dim
        and (layer.group is None or groups[layer.group] == 1)
    ]


def place_context(record: ModelRecord, tokens: int, budget_bytes: int) -> ContextPlace | None:
    """As few layers read as the budget allows for a context of so many tokens; None: none do."""
    order = spread_order(streamable_entries(record.layers))
    for count, (held, step) in enumerate(_sizes(record, tokens, order), 1):
        if held <= budget_bytes:
            streamed = tuple(sorted(order[:count]))
            return ContextPlace(streamed=streamed, held_bytes=held, step_bytes=step)
    return None


def place_again(
    record: ModelRecord, tokens: int, streamed: Collection[int], budget_bytes: int
) -> ContextPlace | None:
    """Where a context goes on of which these entries, one at least, are read already.

    As few more are read as the budget asks for, and none comes back. None: all are not enough.
    """
    order = spread_order(streamable_entries(record.layers))
    rest = [entry for entry in order if entry not in streamed]
    for count in range(len(rest) + 1):
        place = held_with(record, tokens, (*streamed, *rest[:count]))
        if place.held_bytes <= budget_bytes:
            return place
    return None


def held_with(record: ModelRecord, tokens: int, streamed: Sequence[int]) -> ContextPlace:
    """What a context of so many tokens comes to where these entries, one at least, are read."""
    *_, (held, step) = _sizes(record, tokens, streamed)
    return ContextPlace(streamed=tuple(sorted(streamed)), held_bytes=held, step_bytes=step)


def _sizes(record: ModelRecord, tokens: int, order: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Bytes held and read with the first entry of the order read, the first two, and so on.

    What stays is counted twice, since restoring it is a copy, and the largest layer of it once
    more, since growing is one. What a chunk adds to a layer that is read is in memory until it is
    written, behind what fills no block.
    """
    blocks = padded(tokens)
    chunk = max(record.prefill_chunk, BLOCK_TOKENS)
    kept = [cache_bytes(record, layer, tokens) for layer in record.layers]
    stays, sizes = sum(kept), Counter(kept)
    kinds = Counter[tuple[int, int, int]]()
    rooms = tail = step = 0
    for entry in order:
        layer = record.layers[entry]
        token = token_bytes(layer, record.dtype_bytes)
        stays -= kept[entry]
        sizes[kept[entry]] -= 1
        kind = layer.kv_heads, layer.k_dim, layer.v_dim
        kinds[kind] += 1
        if kinds[kind] <= ROOMS:
            rooms += token * blocks
        tail += token * (chunk + BLOCK_TOKENS)
        step += token * blocks
        largest = max((size for size, left in sizes.items() if left), default=0)
        yield rooms + tail + 2 * stays + largest, step


def longest_streamed(record: ModelRecord, budget_bytes: int, reading: Reading) -> int:
    """The longest context, in whole blocks, that has room and is not too slow; 0: none."""
    if why_contexts_stay(record):
        return 0
    low, high = 0, -(-record.context_tokens // BLOCK_TOKENS)
    while low < high:
        middle = (low + high + 1) // 2
        place = place_context(record, middle * BLOCK_TOKENS, budget_bytes)
        if place is not None and not is_too_slow(place.tokens_per_s(reading)):
            low = middle
        else:
            high = middle - 1
    return min(low * BLOCK_TOKENS, record.context_tokens)


def is_too_slow(tokens_per_s: float | None) -> bool:
    """True for a known speed below the least."""
    return tokens_per_s is not None and tokens_per_s < LEAST_TOKENS_PER_S


def spread_order(entries: list[int]) -> list[int]:
    """Entries such that the first few, however many, lie far from each other.

    A context that grows has another one read, and none that was read comes back.
    """
    bits = max(len(entries) - 1, 1).bit_length()
    order = sorted(range(len(entries)), key=lambda at: int(f"{at:0{bits}b}"[::-1], 2))
    return [entries[at] for at in order]

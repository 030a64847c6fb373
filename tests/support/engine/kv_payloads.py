"""KV payloads with random numbers, for tests of files, writer and reader."""

import random

from hotseat.protocol.ids import BlockId, Tag
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.model import LayerSpec, ModelRecord
from hotseat.protocol.tokens import block_id, pack_tokens, root_id
from hotseat.worker.store.kv_format import KvPayload, LayerPart
from tests.support.models.records import model_record

TAG = Tag("ab" * 16)
FULL = LayerSpec(kind="full", kv_heads=2, k_dim=4, v_dim=3)
WINDOW = LayerSpec(kind="window", kv_heads=1, k_dim=4, v_dim=4, window=64)


def make_part(entry: int, layer: LayerSpec, count: int, seed: int = 0) -> LayerPart:
    numbers = random.Random(f"{entry}-{count}-{seed}")
    tokens = count if layer.kind == "full" else min(count, layer.window)
    k_shape = (layer.kv_heads, tokens, layer.k_dim)
    v_shape = (layer.kv_heads, tokens, layer.v_dim)
    return LayerPart(
        entry=entry,
        tokens=tokens,
        keys=numbers.randbytes(layer.kv_heads * tokens * layer.k_dim * 2),
        values=numbers.randbytes(layer.kv_heads * tokens * layer.v_dim * 2),
        k_shape=k_shape,
        v_shape=v_shape,
        dtype="bfloat16",
    )


def make_payload(
    tokens: list[int],
    *,
    parent: BlockId | None = None,
    layers: tuple[LayerSpec, ...] = (FULL,),
    tag: Tag = TAG,
    hint: bytes = b"",
    seed: int = 0,
) -> KvPayload:
    return KvPayload(
        tag=tag,
        parent=root_id(tag) if parent is None else parent,
        tokens=pack_tokens(tokens),
        hint=hint,
        parts=tuple(
            make_part(entry, layer, len(tokens), seed) for entry, layer in enumerate(layers)
        ),
    )


def make_chain(
    count: int, *, layers: tuple[LayerSpec, ...] = (FULL,), seed: int = 0
) -> list[tuple[BlockId, KvPayload]]:
    """`count` full blocks, each the parent of the next."""
    numbers = random.Random(seed)
    parent = root_id(TAG)
    chain = []
    for _ in range(count):
        tokens = [numbers.randrange(1000) for _ in range(BLOCK_TOKENS)]
        payload = make_payload(tokens, parent=parent, layers=layers, seed=seed)
        parent = block_id(TAG, parent, tokens)
        chain.append((parent, payload))
    return chain


def make_record(layers: tuple[LayerSpec, ...] = (FULL,)) -> ModelRecord:
    return model_record(tag=TAG, layers=layers)


def same_payload(left: KvPayload, right: KvPayload) -> bool:
    """True if both hold the same bytes, whatever kind of buffer carries them."""
    return _plain(left) == _plain(right)


def _plain(payload: KvPayload) -> tuple[object, ...]:
    parts = [
        (p.entry, p.tokens, bytes(p.keys), bytes(p.values), p.k_shape, p.v_shape, p.dtype)
        for p in payload.parts
    ]
    return (payload.tag, payload.parent, payload.tokens, payload.hint, parts)

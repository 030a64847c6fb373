"""A small model and the blocks of a long context of it, random numbers, made once.

Must not know arms. In float32, so that all of it is exact on every processor.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import MIB, console
from benchmarks.proof.dense_models import write_weights
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.tokens import block_chain, pack_tokens, root_id
from hotseat.worker.store.kv_file import write_block
from hotseat.worker.store.kv_format import KvPayload, LayerPart
from hotseat.worker.store.reader import BlockToRead

LAYERS, HEADS, DIM, HIDDEN, INNER, VOCAB = 16, 8, 64, 512, 1024, 4096
TOKENS = 16_384
BYTES = TOKENS * LAYERS * HEADS * 2 * DIM * 4


def context_record(folder: Path) -> ModelRecord:
    """What the worker's parts want to know of it."""
    from tests.support.models.records import full_layers, model_record

    return model_record(
        path=str(folder), layers=full_layers(LAYERS, HEADS, DIM), kv_dtype="float32"
    )


def blocks_of(record: ModelRecord) -> list[BlockToRead]:
    """All blocks of the context, as a reader wants them."""
    tokens = [5 + number * 7919 % 4000 for number in range(TOKENS)]
    chain = block_chain(record.tag, tokens)
    packed = [pack_tokens(tokens[at : at + BLOCK_TOKENS]) for at in range(0, TOKENS, BLOCK_TOKENS)]
    return list(zip(chain, [root_id(record.tag), *chain], packed, strict=False))


def context_model(cache: Path) -> Path:
    """Folder of the model; the blocks of its context are in `kv` there."""
    folder = cache / f"context-{TOKENS}"
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    console.print(f"making {folder} and {BYTES / MIB:.0f} MiB of its context (once)")
    config = {
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "head_dim": DIM,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e6,
        "vocab_size": VOCAB,
        "max_position_embeddings": 2 * TOKENS,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    write_weights(folder, config, 1)
    record = context_record(folder)
    for number, (block, parent, tokens) in enumerate(blocks_of(record)):
        parts = tuple(_part(number, entry) for entry in range(LAYERS))
        payload = KvPayload(tag=record.tag, parent=parent, tokens=tokens, parts=parts)
        write_block(folder / "kv", block, payload)
    (folder / "complete").touch()
    return folder


def _part(block: int, entry: int) -> LayerPart:
    shape = (HEADS, BLOCK_TOKENS, DIM)
    random = np.random.default_rng(block * LAYERS + entry)
    keys, values = (_drawn(random, shape) for _ in range(2))
    return LayerPart(
        entry=entry,
        tokens=BLOCK_TOKENS,
        keys=keys.data,
        values=values.data,
        k_shape=shape,
        v_shape=shape,
        dtype="float32",
    )


def _drawn(random: Any, shape: tuple[int, int, int]) -> Any:
    return random.standard_normal(shape, np.float32)

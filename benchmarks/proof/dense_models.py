"""Dense random Llama models of a wanted size in float32, made once. Must not know arms.

Dense on purpose: every token reads every weight. Of a mixture of experts a token touches one part
in hundreds, which would make paging weights in on demand look cheap.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.measure import MIB, console

HIDDEN, INNER, HEAD_DIM, KV_HEADS, VOCAB, CONTEXT = 1024, 4096, 64, 4, 512, 4096
FIRST_WORD = 5
"""Ids below are marks; no answer ends by itself."""
_LAYER_BYTES = 4 * (2 * HIDDEN * HIDDEN + 2 * HIDDEN * KV_HEADS * HEAD_DIM + 3 * HIDDEN * INNER)
_PART_BYTES = 900 * MIB
_SHARP, _PLAIN = 3.0, 1.6
"""Spread of queries, keys and output, and of the rest: greedy text has no close calls."""


def dense_model(cache: Path, size_mb: int, seed: int) -> Path:
    """Folder of a model of about `size_mb` (10^6 bytes); two seeds differ."""
    folder = cache / f"dense-{size_mb}mb-{seed}"
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    console.print(f"making {folder} (once)")
    config = _config(size_mb)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    write_weights(folder, config, seed)
    from tests.support.models.tiny_models import write_tokenizer

    write_tokenizer(folder, vocab=VOCAB, context=CONTEXT)
    (folder / "complete").touch()
    return folder


def _config(size_mb: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": max(1, round(size_mb * 1_000_000 / _LAYER_BYTES)),
        "num_attention_heads": HIDDEN // HEAD_DIM,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "vocab_size": VOCAB,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def write_weights(folder: Path, config: dict[str, Any], seed: int) -> None:
    """Random weights in files of a gigabyte or less: making a model takes little memory."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.utils import _get_classes

    model_class, args_class = _get_classes(config)
    shapes = tree_flatten(model_class(args_class.from_dict(config)).parameters())
    mx.random.seed(seed)
    part: dict[str, mx.array] = {}
    number = 0
    for name, value in sorted(shapes, key=lambda pair: pair[0]):
        part[name] = _drawn(name, value.shape)
        if sum(array.nbytes for array in part.values()) > _PART_BYTES:
            number += 1
            _save(folder, number, part)
    _save(folder, number + 1, part)


def _drawn(name: str, shape: tuple[int, ...]) -> Any:
    import mlx.core as mx

    drawn = mx.random.normal(shape)
    if "norm" in name:
        return drawn * 0.1 + 1.0
    if "embed" in name:
        return drawn
    gain = _SHARP if any(key in name for key in ("q_proj", "k_proj", "lm_head")) else _PLAIN
    drawn = drawn * (gain / shape[-1] ** 0.5)
    if name == "lm_head.weight":
        drawn = drawn * (mx.arange(VOCAB) >= FIRST_WORD)[:, None]
    return drawn


def _save(folder: Path, number: int, part: dict[str, Any]) -> None:
    """As the package safetensors writes it: arrays begin at multiples of eight bytes."""
    from safetensors.mlx import save_file

    if part:
        save_file(part, folder / f"model-{number:05}.safetensors", {"format": "mlx"})
        part.clear()

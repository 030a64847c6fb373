"""Random models of a wanted size, made once in a cache folder. Must not know benchmarks.

They are mixtures of experts, with one active expert where nothing else is said: the bytes of a big
model at the price of a small one per token, as on a GPU, where reading the weights is what a swap
costs.
"""

import json
import shutil
from pathlib import Path

from benchmarks.measure import MIB, console

HIDDEN = 512
EXPERT_HIDDEN = 1024
EXPERT_BYTES = 3 * HIDDEN * EXPERT_HIDDEN * 4
LAYERS = 8
VOCAB = 512
CONTEXT = 4096
MANY_LAYERS, MANY_HIDDEN, MANY_CHOSEN = 16, 512, 4
"""Of a model as large ones are: its experts small beside a layer, a layer small beside it all."""
SPREAD, DISTINCT = 0.02, 1.0
"""Of weights, and of words that take experts of their own: else context drowns them."""


def random_model(cache: Path, size_mb: int, seed: int) -> Path:
    """Folder of a model of about `size_mb` (10^6 bytes) of float32 weights; two seeds differ."""
    folder = cache / f"random-{size_mb}mb-{seed}"
    return _made(folder, _config(size_mb), seed)


def experts_model(cache: Path, size_mb: int, seed: int) -> Path:
    """The same with more layers and experts, of which a token goes through four in each layer."""
    folder = cache / f"experts-{size_mb}mb-{seed}"
    many = {
        "num_hidden_layers": MANY_LAYERS,
        "moe_intermediate_size": MANY_HIDDEN,
        "num_experts": round(size_mb * 1_000_000 / (MANY_LAYERS * 3 * HIDDEN * MANY_HIDDEN * 4)),
        "num_experts_per_tok": MANY_CHOSEN,
    }
    return _made(folder, _config(size_mb) | many, seed, word_spread=DISTINCT)


def _made(folder: Path, config: dict[str, object], seed: int, word_spread: float = SPREAD) -> Path:
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    console.print(f"making {folder} (once)")
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    _write_weights(folder, config, seed, word_spread)
    from tests.support.models.tiny_models import write_tokenizer

    write_tokenizer(folder, vocab=VOCAB, context=CONTEXT)
    (folder / "complete").touch()
    return folder


def weights_bytes(folder: Path) -> int:
    """Of all weight files."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _config(size_mb: int) -> dict[str, object]:
    experts = max(2, round(size_mb * 1_000_000 / (LAYERS * EXPERT_BYTES)))
    return {
        "model_type": "qwen3_moe",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "intermediate_size": EXPERT_HIDDEN,
        "moe_intermediate_size": EXPERT_HIDDEN,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "num_experts": experts,
        "num_experts_per_tok": 1,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "vocab_size": VOCAB,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def _write_weights(folder: Path, config: dict[str, object], seed: int, word_spread: float) -> None:
    """One file a gigabyte or less, so that making a model takes little memory.

    As the package safetensors writes it: arrays begin at multiples of eight bytes.
    """
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.utils import _get_classes
    from safetensors.mlx import save_file

    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    mx.random.seed(seed)
    parts: list[dict[str, mx.array]] = [{}]
    for name, value in sorted(tree_flatten(model.parameters())):
        if sum(array.nbytes for array in parts[-1].values()) > 900 * MIB:
            parts.append({})
        spread = 0.1 if "norm" in name else word_spread if "embed" in name else SPREAD
        drawn = mx.random.normal(value.shape) * spread
        parts[-1][name] = drawn + 1.0 if "norm" in name else drawn
    for number, part in enumerate(parts, start=1):
        path = folder / f"model-{number:05}-of-{len(parts):05}.safetensors"
        save_file(part, path, {"format": "mlx"})
        part.clear()

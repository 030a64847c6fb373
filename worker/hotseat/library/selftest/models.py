"""Small random models with a tokenizer, written and registered: the package brings no weights.

Deterministic: equal seeds write equal bytes. Must not know what is measured with them.
"""

import json
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.models import llama
from msgspec import Struct
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from hotseat.library.importing import import_model
from hotseat.protocol.selftest import Fact, MakeModels, Measured, figure

SPECIALS: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_END: Final = SPECIALS.index("<|im_end|>")
CONTEXT: Final = 32_768
_HEAD: Final = 64
_WANDER: Final = 3.0
"""How much wider queries, keys and the head are drawn: greedy text then does not run in circles."""
_PLAIN: Final = 1.6
_TEMPLATE: Final = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_models(order: MakeModels) -> Measured:
    """Writes and registers; the figures are what was registered."""
    home = Path(order.home)
    made = []
    for seed, name in enumerate(order.names):
        folder = write_model(home / "src" / name, seed)
        made.append(import_model(folder, home, name, _silent))
    if order.source:
        adapter = Path(order.adapter) if order.adapter else None
        made.append(import_model(Path(order.source), home, order.chosen, _silent, adapter=adapter))
    largest = made[-1]
    return Measured(
        figures=(
            figure("weights_bytes", *(record.weights_bytes for record in made)),
            figure("kv_bytes_per_token", *(record.kv_bytes_per_token for record in made)),
            figure("prefill_chunk_tokens", *(record.prefill_chunk for record in made)),
        ),
        facts=(
            Fact(name="architecture", value=largest.architecture),
            Fact(name="quantisation", value=largest.quantisation),
        ),
    )


class Shape(Struct, frozen=True, kw_only=True):
    """Width, inner width and layers of a llama; heads are 64 wide, and shared by two or more."""

    width: int = 128
    inner: int = 256
    layers: int = 3


LARGE: Final = Shape(width=768, inner=3072, layers=16)
"""550 MB: large enough that reading it is what a token takes, small enough for any disk."""


def write_model(folder: Path, seed: int, shape: Shape = Shape()) -> Path:  # noqa: B008 - frozen
    """A llama, of 2 MB if no shape is given; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = _config(shape)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    model = llama.Model(llama.ModelArgs.from_dict(config))
    rng = np.random.default_rng(seed)
    weights = {
        name: mx.array(_drawn(rng, name, value.shape))
        for name, value in sorted(tree_flatten(model.parameters()))
    }
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    (folder / "tokenizer.json").write_text(_tokenizer().to_str())
    (folder / "tokenizer_config.json").write_text(json.dumps(_tokenizer_config(), indent=1))
    return folder


def _config(shape: Shape) -> dict[str, Any]:
    heads = shape.width // _HEAD
    return {
        "model_type": "llama",
        "hidden_size": shape.width,
        "head_dim": _HEAD,
        "num_attention_heads": heads,
        "num_key_value_heads": max(heads // 4, 1),
        "num_hidden_layers": shape.layers,
        "intermediate_size": shape.inner,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": False,
        "vocab_size": len(SPECIALS) + len(pre_tokenizers.ByteLevel.alphabet()),
        "max_position_embeddings": CONTEXT,
        "eos_token_id": _END,
    }


def _drawn(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Any:
    noise = rng.standard_normal(shape, dtype=np.float32)
    if "norm" in name:
        return noise * np.float32(0.1) + np.float32(1.0)
    if "embed" in name:
        return noise
    is_wide = any(part in name for part in ("q_proj", "k_proj", "lm_head"))
    drawn = noise * np.float32((_WANDER if is_wide else _PLAIN) / shape[-1] ** 0.5)
    if name == "lm_head.weight":
        drawn[: len(SPECIALS)] = 0.0  # an answer runs on until its limit
    return drawn


def _tokenizer() -> Tokenizer:
    """A token a byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {text: number for number, text in enumerate((*SPECIALS, *letters))}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in SPECIALS]
    )
    return tokenizer


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": SPECIALS[_END],
        "pad_token": SPECIALS[_END],
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
        "chat_template": _TEMPLATE,
    }


def _silent(phase: str, percent: float) -> None:
    """Nobody looks on: the entry has a time limit."""
    del phase, percent

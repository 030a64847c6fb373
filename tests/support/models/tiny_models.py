"""Tiny real MLX models with random weights and a real tokenizer, made in milliseconds.

Deterministic per (kind, dtype, seed, vocab): two calls write the same bytes.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from hotseat.protocol.model import ModelRecord
from tests.support.models.tiny_kinds import EXPERTS, LATENT, RECURRENT, chunked, griffin

Kind = Literal[
    "llama",
    "qwen3",
    "gemma3",
    "gpt_oss",
    "mixtral",
    "deepseek_v2",
    "deepseek_v32",
    "lfm2",
    "falcon_h1",
    "mamba2",
    "recurrent_gemma",
    "llama4",
]
Template = Literal["chatml", "none", "thinking", "agent", "qwen"]

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
CALL_MARKS = ("<tool_call>", "</tool_call>")
"""Added tokens that are not special, as Qwen has them; only templates with tools bring them."""
SYSTEM_TEXT = "You are a tiny assistant."
HIDDEN = 64
HEADS = 4
KV_HEADS = 2
HEAD_DIM = 16

_CORPUS = """
The quick brown fox jumps over the lazy dog while seven wizards quietly brew strong coffee.
A seat holds one model at a time; the others wait in a line and keep what they know on disk.
When the user asks a question the assistant gives an answer, then the next question follows.
Numbers such as 1024, 256 and 65536 appear often, and so do words like token, block and session.
def render(messages): return "".join(message.text for message in messages) # joins the texts
Paris is the capital of France, Rome is the capital of Italy, Lima is the capital of Peru.
Rain falls on the roof, water runs down the street, and people walk home under their umbrellas.
"""

CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\n" + SYSTEM_TEXT + "<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Like SmolLM2's: a default system turn is injected when the dialogue brings none."""

THINKING = (
    "{% set ns = namespace(last_user=0) %}"
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{% set ns.last_user = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' and loop.index0 > ns.last_user"
    " and message['reasoning_content'] %}"
    "<think>\n{{ message['reasoning_content'] }}\n</think>\n"
    "{% endif %}"
    "{{ message['content'].split('</think>')[-1].lstrip('\n') }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
"""Reasoning of earlier turns is dropped, so a turn cannot be appended exactly."""

_TOOLS = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
    "<|im_end|>\n{% endif %}"
)
_CALLS = (
    "{% for tool_call in message['tool_calls'] or [] %}"
    "{% set tool_call = tool_call.function %}"
    '<tool_call>\n{"name": "{{ tool_call.name }}", "arguments": '
    "{{ tool_call.arguments | tojson }}}\n</tool_call>"
    "{% endfor %}"
)
AGENT = (
    _TOOLS + "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] or '' }}" + _CALLS + "<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Tools and calls; what the model wrote stays as it is, so turns are appended exactly."""

QWEN = (
    _TOOLS
    + THINKING.split("{% if add_generation_prompt %}", maxsplit=1)[0].replace(
        "<|im_end|>\n", _CALLS + "<|im_end|>\n"
    )
    + "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
"""Like Qwen 3: the model opens its reasoning itself, earlier reasoning is dropped."""

_TEMPLATES = {"chatml": CHATML, "thinking": THINKING, "agent": AGENT, "qwen": QWEN}


def make_tiny(
    folder: Path,
    kind: Kind,
    *,
    dtype: Literal["float32", "bfloat16"] = "float32",
    seed: int = 0,
    template: Template = "chatml",
    window: int = 64,
    context: int = 16384,
    vocab: int = 512,
    ends: bool = False,
    fields: Mapping[str, Any] | None = None,
) -> Path:
    """Write config.json, model.safetensors and tokenizer files of a random model; the folder.

    `fields` of config.json stand for the kind's own. Greedy text runs on until max_tokens unless
    `ends`: then the model may choose <|im_end|>.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = tiny_config(kind, window=window, context=context, vocab=vocab) | dict(fields or {})
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    weights = tiny_weights(config, dtype=dtype, seed=seed, ends=ends)
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    write_tokenizer(folder, template=template, vocab=vocab, context=context)
    return folder


def register_tiny(home: Path, name: str, kind: Kind, **options: Any) -> ModelRecord:
    """Make a tiny model under home/src/NAME and register it in place."""
    from hotseat.library.importing import import_model

    folder = make_tiny(Path(home) / "src" / name, kind, **options)
    return import_model(folder, Path(home), name, lambda _phase, _percent: None)


def tiny_config(
    kind: Kind, *, window: int = 64, context: int = 16384, vocab: int = 512
) -> dict[str, Any]:
    """config.json of a tiny model of this kind."""
    base = {
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    attention = {
        "head_dim": HEAD_DIM,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    }
    own: dict[Kind, dict[str, Any]] = {
        "llama": attention | {"model_type": "llama", "num_hidden_layers": 3},
        "qwen3": attention | {"model_type": "qwen3"},
        "gemma3": attention
        | {
            "model_type": "gemma3_text",
            "num_hidden_layers": 4,
            "sliding_window": window,
            "sliding_window_pattern": 2,
            "query_pre_attn_scalar": HEAD_DIM,
            "rope_local_base_freq": 10000.0,
        },
        "gpt_oss": attention
        | {
            "model_type": "gpt_oss",
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
            "intermediate_size": HIDDEN,
            "sliding_window": window,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        "recurrent_gemma": griffin(window),
        "llama4": chunked(base, window),
        **EXPERTS,
        **LATENT,
        **RECURRENT,
    }
    return base | own[kind]


def tiny_weights(
    config: dict[str, Any],
    *,
    dtype: Literal["float32", "bfloat16"] = "float32",
    seed: int = 0,
    ends: bool = False,
) -> dict[str, mx.array]:
    """Random parameters by name; scaled so that greedy text wanders instead of repeating."""
    from mlx_lm.utils import _get_classes

    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    rng = np.random.default_rng(seed)
    made: dict[str, mx.array] = {}
    for name, value in sorted(tree_flatten(model.parameters())):
        drawn = _drawn(rng, name, value.shape, config["model_type"])
        is_head = name == "lm_head.weight" or (config["model_type"] == "lfm2" and "embed" in name)
        if is_head:
            drawn[[0, 1, 3, 4] if ends else slice(0, len(SPECIALS))] = 0.0
        made[name] = mx.array(drawn).astype(getattr(mx, dtype))
    return made


def _drawn(
    rng: np.random.Generator, name: str, shape: tuple[int, ...], model_type: str
) -> np.ndarray:
    noise = rng.standard_normal(shape, dtype=np.float32)
    if "norm" in name:
        return noise * 0.1 + (0.0 if model_type == "gemma3_text" else 1.0)
    if "embed" in name:
        return noise
    if len(shape) < 2 or "bias" in name or "A_log" in name:
        return noise * 0.1
    gain = 3.0 if any(part in name for part in ("q_proj", "k_proj", "lm_head")) else 1.6
    return noise * (gain / shape[-1] ** 0.5)


def write_tokenizer(
    folder: Path, *, template: Template = "chatml", vocab: int = 512, context: int = 16384
) -> None:
    """tokenizer.json and tokenizer_config.json: byte-level BPE; eos is <|im_end|>."""
    marks = CALL_MARKS if template in ("agent", "qwen") else ()
    (folder / "tokenizer.json").write_text(_tokenizer_json(vocab, marks))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
    }
    if template != "none":
        config["chat_template"] = _TEMPLATES[template]
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))


@functools.lru_cache(maxsize=4)
def _tokenizer_json(vocab: int, marks: tuple[str, ...] = ()) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - len(marks),
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in SPECIALS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS.splitlines(), trainer)
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in marks])
    if tokenizer.get_vocab_size() != vocab:
        reached = tokenizer.get_vocab_size()
        raise ValueError(f"the corpus yields {reached} tokens, {vocab} were asked for")
    return tokenizer.to_str()

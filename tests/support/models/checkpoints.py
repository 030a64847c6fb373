"""Tiny folders with what real checkpoints have beside, or instead of, plain weights of text."""

import io
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import sentencepiece

from tests.support.models import tiny_models
from tests.support.models.reshaped import edit_json

WHOLE = "model.safetensors"
_AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""Which of eight numbers stands in which half byte of AutoAWQ's words."""


def read_weights(folder: Path) -> dict[str, mx.array]:
    """All tensors of a folder of one file."""
    weights: Any = mx.load(str(folder / WHOLE))
    mx.eval(weights)
    return dict(weights)


def write_weights(folder: Path, weights: dict[str, mx.array], name: str = WHOLE) -> Path:
    """A weight file of these tensors; the folder."""
    mx.save_safetensors(str(folder / name), weights, {"format": "mlx"})
    return folder


def put_beside(folder: Path, module: str) -> Path:
    """Three tensors of a module that the model of text has not."""
    added = {f"{module}.blocks.{at}.proj.weight": mx.ones((64, 64)) for at in range(3)}
    return write_weights(folder, read_weights(folder) | added)


def as_published(folder: Path, tower: str) -> Path:
    """Text and images below one `model.`, as transformers names them; the head stands beside."""
    renamed = {
        name.replace("language_model.model.", "model.language_model.").replace(
            "language_model.lm_head", "lm_head"
        ): value
        for name, value in read_weights(folder).items()
    }
    return put_beside(write_weights(folder, renamed), f"model.{tower}")


def quantise(folder: Path, layers: dict[str, Any] | None = None, **usual: Any) -> Path:
    """MLX's own packing of all but norms; `layers`: what some take instead, False for none."""
    made: dict[str, mx.array] = {}
    for name, value in read_weights(folder).items():
        module = name.removesuffix(".weight")
        chosen = (layers or {}).get(module, usual)
        if "norm" in name or chosen is False:
            made[name] = value
            continue
        parts = mx.quantize(value, **chosen)
        named = zip(("weight", "scales", "biases"), parts, strict=False)
        made |= {f"{module}.{part}": array for part, array in named}
    edit_json(folder / "config.json", quantization=usual | (layers or {}))
    return write_weights(folder, made)


def pack_awq(folder: Path, method: str = "awq", group: int = 32) -> Path:
    """AutoAWQ's packing of the same numbers as `quantise` with 4 bits, embedding and head plain."""
    made: dict[str, mx.array] = {}
    for name, value in read_weights(folder).items():
        module = name.removesuffix(".weight")
        if "_proj" not in name:
            made[name] = value.astype(mx.float16)
            continue
        low = value.reshape(value.shape[0], -1, group).min(-1).astype(mx.float16)
        high = value.reshape(value.shape[0], -1, group).max(-1).astype(mx.float16)
        scales = mx.maximum((high - low) / 15, 1e-4)
        zeros = mx.clip(mx.round(-low / scales), 0, 15)
        spread = mx.repeat(scales, group, axis=1), mx.repeat(zeros, group, axis=1)
        numbers = mx.clip(mx.round(value / spread[0]) + spread[1], 0, 15).astype(mx.uint32)
        made[f"{module}.qweight"] = _awq_words(numbers.T)
        made[f"{module}.qzeros"] = _awq_words(zeros.astype(mx.uint32).T)
        made[f"{module}.scales"] = mx.contiguous(scales.T)
    table = {"quant_method": method, "bits": 4, "group_size": group, "zero_point": True}
    edit_json(folder / "config.json", quantization_config=table)
    return write_weights(folder, made)


def _awq_words(numbers: mx.array) -> mx.array:
    """`(rows, columns)` of 4 bits as `(rows, columns / 8)` words."""
    rows, columns = numbers.shape
    eights = numbers.reshape(rows, columns // 8, 8)
    shifts = mx.array(_AWQ_ORDER, dtype=mx.uint32) * 4
    return (eights << shifts).sum(-1).astype(mx.uint32)


def mark_fp8(folder: Path, model_type: str, **table: Any) -> Path:
    """Says of a folder that its weights are 8-bit floats of this kind."""
    edit_json(folder / "config.json", model_type=model_type, quantization_config=table)
    return folder


def with_sentencepiece(folder: Path, tokenizer_class: str | None = "LlamaTokenizer") -> Path:
    """A tokenizer.model and no fast file; None: no tokenizer_config.json either."""
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(tiny_models._CORPUS.splitlines()),
        model_writer=made,
        vocab_size=480,
        model_type="bpe",
        byte_fallback=True,
        user_defined_symbols=["<|im_start|>", "<|im_end|>"],
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(made.getvalue())
    if tokenizer_class is None:
        (folder / "tokenizer_config.json").unlink()
    else:
        edit_json(folder / "tokenizer_config.json", tokenizer_class=tokenizer_class)
    return folder


def with_merges(folder: Path, tokenizer_class: str) -> Path:
    """The same tokenizer as vocab.json, merges.txt and added_tokens.json."""
    file = folder / "tokenizer.json"
    model = json.loads(file.read_text())
    (folder / "vocab.json").write_text(json.dumps(model["model"]["vocab"]))
    merges = [one if isinstance(one, str) else " ".join(one) for one in model["model"]["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    added = {one["content"]: one["id"] for one in model["added_tokens"]}
    (folder / "added_tokens.json").write_text(json.dumps(added))
    decoder = {
        str(one["id"]): {key: value for key, value in one.items() if key != "id"}
        for one in model["added_tokens"]
    }
    edit_json(
        folder / "tokenizer_config.json",
        tokenizer_class=tokenizer_class,
        added_tokens_decoder=decoder,
    )
    file.unlink()
    return folder


def with_own_tokenizer(folder: Path, trace: Path) -> Path:
    """A tokenizer that only code of the folder makes; running it leaves `trace`."""
    (folder / "own.py").write_text(f"open({str(trace)!r}, 'w').close()\n")
    code = {"AutoTokenizer": ["own.OwnTokenizer", None]}
    edit_json(folder / "tokenizer_config.json", tokenizer_class="OwnTokenizer", auto_map=code)
    return folder


def split(folder: Path, parts: int) -> list[str]:
    """The weights in `parts` files instead of one, with their index; their names."""
    tensors = read_weights(folder)
    names = [f"model-{at + 1:05d}-of-{parts:05d}.safetensors" for at in range(parts)]
    table = {tensor: names[at % parts] for at, tensor in enumerate(sorted(tensors))}
    for name in names:
        held = {tensor: tensors[tensor] for tensor, shard in table.items() if shard == name}
        write_weights(folder, held, name)
    (folder / WHOLE).unlink()
    (folder / f"{WHOLE}.index.json").write_text(json.dumps({"weight_map": table}))
    return names


def as_openai(folder: Path) -> Path:
    """gpt-oss as its makers publish it: experts in mxfp4 blocks, gate and up interleaved."""
    weights = read_weights(folder)
    for gate in [name for name in weights if name.endswith("gate_proj.weight")]:
        prefix = gate.removesuffix("gate_proj.weight")
        taken = {
            f"{part}.{kind}": weights.pop(f"{prefix}{part}.{kind}")
            for part in ("gate_proj", "up_proj", "down_proj")
            for kind in ("weight", "bias")
        }
        both = {
            kind: _interleaved(taken[f"gate_proj.{kind}"], taken[f"up_proj.{kind}"])
            for kind in ("weight", "bias")
        }
        for part, weight, bias in (
            ("gate_up_proj", both["weight"], both["bias"]),
            ("down_proj", taken["down_proj.weight"], taken["down_proj.bias"]),
        ):
            packed, scales = mx.quantize(weight, group_size=32, bits=4, mode="mxfp4")
            blocks = mx.unflatten(packed.view(mx.uint8), -1, (-1, 16))
            weights[f"{prefix}{part}_blocks"] = blocks
            weights[f"{prefix}{part}_scales"] = scales
            weights[f"{prefix}{part}_bias"] = bias
    edit_json(folder / "config.json", quantization_config={"quant_method": "mxfp4"})
    return write_weights(folder, weights)


def _interleaved(first: mx.array, second: mx.array) -> mx.array:
    """Rows of both in turn, along the second axis."""
    return mx.flatten(mx.stack([first, second], axis=2), 1, 2)

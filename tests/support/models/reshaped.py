"""Tiny models in the shapes that folders of others come in: nested, sparse, padded."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np


def edit_json(file: Path, *dropped: str, **changes: Any) -> None:
    """Takes fields out of a JSON object and puts others in; begins one if there is none."""
    table = json.loads(file.read_text()) if file.exists() else {}
    table = {key: value for key, value in table.items() if key not in dropped}
    file.write_text(json.dumps(table | changes))


def nest(folder: Path, model_type: str, *dropped: str) -> Path:
    """Puts the configuration into `text_config` of a model for images and text.

    `dropped` fields are left out: such configurations name only what is not the default.
    """
    file = folder / "config.json"
    config = json.loads(file.read_text())
    text = {key: value for key, value in config.items() if key not in dropped}
    ends = text.pop("eos_token_id")
    outer = {"model_type": model_type, "text_config": text, "eos_token_id": ends}
    file.write_text(json.dumps(outer))
    _rewrite(folder, {f"language_model.{k}": v for k, v in _weights(folder).items()})
    return folder


def pad_vocabulary(folder: Path, size: int) -> Path:
    """Rows of embedding and head beyond the tokenizer; those of the head are drawn very readily."""
    edit_json(folder / "config.json", vocab_size=size)
    weights = _weights(folder)
    for name, value in weights.items():
        if value.ndim == 2 and ("embed_tokens" in name or "lm_head" in name):
            rows = np.random.default_rng(0).standard_normal((size - value.shape[0], value.shape[1]))
            added = mx.array(rows.astype(np.float32)).astype(value.dtype)
            weights[name] = mx.concatenate([value, added * 8.0])
    _rewrite(folder, weights)
    return folder


def _weights(folder: Path) -> dict[str, mx.array]:
    weights: Any = mx.load(str(folder / "model.safetensors"))
    mx.eval(weights)
    return dict(weights)


def _rewrite(folder: Path, weights: dict[str, mx.array]) -> None:
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})

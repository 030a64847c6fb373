"""KV geometry by what a configuration says, for a list of models none of which is built. Pure.

An estimate from above: a layer of which nothing else is said keeps every token. Registering builds
the model and knows (`geometry.py`).
"""

from collections.abc import Mapping
from typing import Any, Final

from hotseat.library.configuration import first_positive, stated_heads
from hotseat.protocol.model import LayerSpec
from hotseat.protocol.residence import CHOSEN_FIELDS, WeightParts

_FULL: Final = ("full_attention", "attention", "global", "full")
_WINDOWED: Final = ("sliding_attention", "sliding", "local", "sliding_window")
_STEPS: Final = {"gemma3_text": 6, "gemma3": 6, "cohere2": 4}
"""Kinds where each so many-th layer keeps every token unless the configuration says otherwise."""
_RECURRENT: Final = frozenset({"mamba", "mamba2", "rwkv7", "falcon_mamba"})
_MAX_LAYERS: Final = 10_000


def estimate_layers(text: Mapping[str, Any]) -> tuple[LayerSpec, ...]:
    """Layers of the model whose text table this is; none if it does not say how many."""
    count = first_positive(text, "num_hidden_layers", "n_layers", "n_layer", "num_layers")
    if not 0 < count <= _MAX_LAYERS:
        return ()
    if text.get("model_type") in _RECURRENT:
        return (LayerSpec(kind="state"),) * count
    full = _full_layer(text)
    window = first_positive(text, "sliding_window", "sliding_window_size")
    kinds = _kinds(text, count)
    return tuple(_layer(kind, full, window) for kind in kinds)


def estimate_parts(text: Mapping[str, Any], weights_bytes: int, experts: int) -> WeightParts | None:
    """What weights of so many bytes are made of, where layers are alike; None if it is not said.

    What is in no layer counts as two of them, and a tenth of a layer with experts as no experts:
    more than of the models that people use, so that less seems to fit.
    """
    count = first_positive(text, "num_hidden_layers", "n_layers", "n_layer", "num_layers")
    if not 0 < count <= _MAX_LAYERS:
        return None
    layer = weights_bytes // (count + 2)
    return WeightParts(
        layers=(layer,) * count,
        outside=weights_bytes - layer * count,
        experts=(layer * 9 // 10,) * count if experts else (),
        expert_count=experts,
        chosen=first_positive(text, *CHOSEN_FIELDS),
    )


def _full_layer(text: Mapping[str, Any]) -> LayerSpec:
    latent = first_positive(text, "kv_lora_rank")
    if latent:
        rotary = first_positive(text, "qk_rope_head_dim")
        return LayerSpec(kind="full", kv_heads=1, k_dim=latent, v_dim=rotary)
    heads = stated_heads(text)
    kv_heads = first_positive(text, "num_key_value_heads", "num_kv_heads") or heads
    hidden = first_positive(text, "hidden_size", "n_embd", "d_model", "dim")
    size = first_positive(text, "head_dim") or (hidden // heads if heads else 0)
    return LayerSpec(
        kind="full",
        kv_heads=kv_heads,
        k_dim=size,
        v_dim=first_positive(text, "v_head_dim") or size,
    )


def _kinds(text: Mapping[str, Any], count: int) -> list[str]:
    """One word per layer: full, window or state."""
    listed = text.get("layer_types")
    if isinstance(listed, list) and len(listed) == count:
        return [_word(entry) for entry in listed]
    usual = _STEPS.get(str(text.get("model_type")), 0)
    step = first_positive(text, "sliding_window_pattern", "_sliding_window_pattern") or usual
    if step:
        return ["full" if (i + 1) % step == 0 else "window" for i in range(count)]
    interval = first_positive(text, "full_attention_interval")
    if interval:
        return ["full" if (i + 1) % interval == 0 else "state" for i in range(count)]
    return ["full"] * count


def _word(entry: object) -> str:
    if entry in _WINDOWED:
        return "window"
    return "full" if entry in _FULL or not isinstance(entry, str) else "state"


def _layer(kind: str, full: LayerSpec, window: int) -> LayerSpec:
    if kind == "state":
        return LayerSpec(kind="state")
    if kind == "full" or not window:
        return full
    return LayerSpec(
        kind="window", kv_heads=full.kv_heads, k_dim=full.k_dim, v_dim=full.v_dim, window=window
    )

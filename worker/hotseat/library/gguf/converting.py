"""Writes the files of an MLX folder out of a planned conversion. Must not know homes or names."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
import msgspec

from hotseat.library.durable import write_durably
from hotseat.library.folder import unavailable
from hotseat.library.gguf.forms import FLOATS
from hotseat.library.gguf.planning import Step, Work
from hotseat.library.gguf.tokenizer import end_token_ids, write_tokenizer
from hotseat.library.gguf.weights import Arrays, convert, rope_order
from hotseat.library.progress import ByteProgress, OnProgress
from hotseat.library.stated import NOTHING_STATED, Stated
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB
from hotseat.protocol.model_files import CONFIG_FILE, GENERATION_CONFIG

_SHARD_BYTES: Final = 2 * GIB
"""Converted weights are held in memory one shard at a time."""


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """What the record says about a converted file."""

    licence: str
    requantised: tuple[str, ...]
    """Types whose codes are not kept, so that they were quantised again."""


def convert_gguf(
    work: Work, target: Path, on_progress: OnProgress, stated: Stated = NOTHING_STATED
) -> Conversion:
    """Writes the MLX files of a GGUF file into `target`.

    Raises `HotseatError` model_unavailable for a vocabulary that cannot be used, `OSError` for a
    disk that cannot be written.
    """
    _write_weights(work, target, on_progress)
    on_progress("tokenizer", 0.0)
    _write_tokenizer(work, target)
    config = _final_config(work, stated)
    write_durably(target / CONFIG_FILE, json.dumps(config, indent=1).encode())
    if stated.generation:
        table = json.dumps(dict(stated.generation), indent=1)
        write_durably(target / GENERATION_CONFIG, table.encode())
    on_progress("tokenizer", 100.0)
    again = {step.tensor.kind for step in work.steps if not step.form.kept} - set(FLOATS)
    return Conversion(
        licence=str(work.gguf.metadata.get("general.license", "")) or stated.licence,
        requantised=tuple(sorted(kind.name for kind in again)),
    )


def _write_tokenizer(work: Work, target: Path) -> None:
    try:
        write_tokenizer(target, work.vocabulary, work.layout.config["max_position_embeddings"])
    except (HotseatError, OSError):
        raise
    except Exception as error:
        # `tokenizers` raises bare Exception for vocabularies it cannot take.
        raise unavailable(
            work.gguf.path,
            f"its vocabulary cannot be used ({error})",
            "import an MLX conversion of this model",
        ) from error


def _final_config(work: Work, stated: Stated) -> dict[str, Any]:
    vocabulary = work.vocabulary
    ends = end_token_ids(vocabulary, stated.ends)
    config = dict(work.layout.config)
    if ends:
        config["eos_token_id"] = list(ends) if len(ends) > 1 else ends[0]
    if "bos" in vocabulary.special_ids:
        config["bos_token_id"] = vocabulary.special_ids["bos"]
    quantised = [step for step in work.steps if step.form.bits]
    if quantised:
        config["quantization"] = _quantisation_table(quantised)
    return config


def _quantisation_table(steps: list[Step]) -> dict[str, Any]:
    """The commonest form, and those modules that have another one."""
    tables = {
        step.plan.module: {
            "group_size": step.form.group,
            "bits": step.form.bits,
            "mode": step.form.mode,
        }
        for step in steps
    }
    forms = list(tables.values())
    usual = max(forms, key=forms.count)
    others = {module: table for module, table in sorted(tables.items()) if table != usual}
    return {**usual, **others}


def _write_weights(work: Work, target: Path, on_progress: OnProgress) -> None:
    progress = ByteProgress(on_progress, "convert", work.stored_bytes)
    shards: list[dict[str, mx.array]] = []
    for step, arrays in converted(work):
        named = {
            f"{step.plan.module}.{suffix}" if step.form.bits else step.plan.target: array
            for suffix, array in arrays.items()
        }
        size = sum(array.nbytes for array in named.values())
        held = sum(array.nbytes for array in shards[-1].values()) if shards else 0
        if not shards or held + size > _SHARD_BYTES:
            _flush(shards, target)
            shards.append({})
        shards[-1].update(named)
        progress.add(step.tensor.size_bytes)
    _flush(shards, target)
    _name_shards(len(shards), target)


def converted(work: Work) -> Iterator[tuple[Step, Arrays]]:
    """Each tensor in its new form, one at a time; nothing is written."""
    for step in work.steps:
        plan = step.plan
        order = rope_order(plan.shape[0], plan.heads) if plan.transform == "rope_rows" else None
        offset = -1.0 if plan.transform == "norm_offset" else 0.0
        raw = work.gguf.read(plan.source)
        yield step, convert(raw, step.tensor.kind, step.form, plan.shape, order, offset)


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

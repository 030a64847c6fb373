"""How digests become a tag, for whoever registers a model and whoever changes its adapter. Pure."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any, Final

import msgspec
from msgspec import structs

from hotseat.protocol.ids import Tag
from hotseat.protocol.model import KV_LAYOUT_VERSION, FileDigest, ModelRecord, TagParts

DIGEST_BYTES: Final = 16
NO_ADAPTER: Final = "none"
MLX_LM_KV: Final = "mlx-lm-0.32"
"""Marker of the mlx-lm line whose caches and attention the stored KV belongs to: changed by hand
when an upgrade changes what a stored K or V means, so that harmless upgrades keep the KV."""
ADAPTER_FILES: Final = ("adapter_config.json", "adapters.safetensors")
"""What a folder of LoRA weights consists of, as mlx-lm writes and reads it."""


def canonical_json(value: Any) -> bytes:
    """The one spelling of a JSON value: sorted keys, no spaces, ASCII."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return text.encode()


def digest_json(value: Any) -> str:
    """blake2b-128 of the canonical JSON, as 32 hex digits."""
    return hashlib.blake2b(canonical_json(value), digest_size=DIGEST_BYTES).hexdigest()


def model_tag(parts: TagParts) -> Tag:
    """Identity that decides KV compatibility."""
    return Tag(digest_json(msgspec.to_builtins(parts)))


def adapter_digest(files: Iterable[FileDigest]) -> str:
    """Of an adapter's files wherever they lie; a word for none."""
    listed = sorted([PurePath(file.name).name, file.blake2b] for file in files)
    return digest_json(listed) if listed else NO_ADAPTER


def kv_part(kv_dtype: str) -> str:
    """What is stored and how: layout version, dtype and the mlx-lm line whose KV it is."""
    return f"layout={KV_LAYOUT_VERSION};dtype={kv_dtype};{MLX_LM_KV}"


def as_stored_now(record: ModelRecord) -> ModelRecord:
    """The record with the tag of KV as this version stores it.

    An older version registered the model under the layout of its time; the files are the same.
    """
    parts = structs.replace(record.tag_parts, kv=kv_part(record.kv_dtype))
    is_ours = record.tag == model_tag(record.tag_parts)
    if parts == record.tag_parts or not is_ours:
        return record
    return structs.replace(record, tag_parts=parts, tag=model_tag(parts))

"""Digests that make up a model's tag. Must not know mlx or how files are read: objects in.

Two registrations of the same files give the same tag; anything that changes KV changes it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any, Final

import msgspec

from hotseat.protocol.ids import Tag
from hotseat.protocol.model import KV_LAYOUT_VERSION, FileDigest, TagParts

DIGEST_BYTES: Final = 16
NO_ADAPTER: Final = "none"
MLX_LM_KV: Final = "mlx-lm-0.32"
"""Marker of the mlx-lm line whose caches and attention the stored KV belongs to: changed by hand
when an upgrade changes what a stored K or V means, so that harmless upgrades keep the KV."""

_IRRELEVANT_CONFIG: Final = frozenset(
    {
        "_name_or_path",
        "_commit_hash",
        "architectures",
        "auto_map",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "torch_dtype",
        "dtype",
        "transformers_version",
        "use_cache",
        "quantization",
        "quantization_config",
    }
)
"""Fields of config.json that do not change K or V; quantisation has a part of its own."""
_IRRELEVANT_TOKENIZER: Final = frozenset(
    {"chat_template", "name_or_path", "model_max_length", "processor_class"}
)


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


def architecture_digest(config: Mapping[str, Any]) -> str:
    """Of config.json without what does not matter for KV."""
    return digest_json(_without(config, _IRRELEVANT_CONFIG))


def quantisation_digest(config: Mapping[str, Any]) -> str:
    """Of the quantisation tables of config.json, nested ones included."""
    text_config = config.get("text_config") or {}
    keys = ("quantization", "quantization_config")
    return digest_json([[source.get(key) for key in keys] for source in (config, text_config)])


def weights_digest(files: Iterable[FileDigest]) -> str:
    """Of names, sizes and digests of the weight files, in any order."""
    return digest_json(sorted([file.name, file.size_bytes, file.blake2b] for file in files))


def tokenizer_digest(files: Iterable[FileDigest], config: Mapping[str, Any]) -> str:
    """Of the tokenizer's files; tokenizer_config.json counts without its chat template."""
    listed = sorted([file.name, file.blake2b] for file in files)
    return digest_json([listed, _without(config, _IRRELEVANT_TOKENIZER)])


def template_digest(template: str) -> str:
    """Of the chat template's source; of the empty text without one."""
    return digest_json(template)


def adapter_digest(files: Iterable[FileDigest]) -> str:
    """Of an adapter's files wherever they lie; a word for none."""
    listed = sorted([PurePath(file.name).name, file.blake2b] for file in files)
    return digest_json(listed) if listed else NO_ADAPTER


def kv_part(kv_dtype: str) -> str:
    """What is stored and how: layout version, dtype and the library whose KV it is."""
    return f"layout={KV_LAYOUT_VERSION};dtype={kv_dtype};{MLX_LM_KV}"


def _without(table: Mapping[str, Any], dropped: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in dropped}

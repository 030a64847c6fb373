"""How digests become a tag, for whoever registers a model and whoever changes its adapter. Pure."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any, Final

import msgspec

from hotseat.protocol.ids import Tag
from hotseat.protocol.model import FileDigest, TagParts

DIGEST_BYTES: Final = 16
NO_ADAPTER: Final = "none"
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

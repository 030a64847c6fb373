"""Digests that make up a model's tag. Must not know mlx or how files are read: objects in.

Two registrations of the same files give the same tag; anything that changes KV changes it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from hotseat.protocol.model import FileDigest
from hotseat.protocol.tags import digest_json

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


def _without(table: Mapping[str, Any], dropped: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in dropped}

"""Which files of a model folder are read when it is loaded. Opens none of them.

One list for whoever registers a model, plans with it or loads it: what counts as a part of the
model is what counts as a change of it.
"""

from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from msgspec import Struct

from hotseat.protocol.model import ModelRecord

WEIGHTS_GLOB: Final = "model*.safetensors"
"""The pattern mlx-lm loads."""
INDEX_FILE: Final = "model.safetensors.index.json"
CONFIG_FILE: Final = "config.json"
GENERATION_CONFIG: Final = "generation_config.json"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"
TEMPLATE_FILE: Final = "chat_template.jinja"
TEMPLATE_TABLE: Final = "chat_template.json"
"""A template as processors of images keep it; read where the tokenizer has none of its own."""
NAMED_TEMPLATES: Final = "additional_chat_templates"
"""Folder of further templates, each under its name."""
FAST_TOKENIZER: Final = "tokenizer.json"
TOKENIZER_FILES: Final = (
    FAST_TOKENIZER,
    "tokenizer.model",
    "tiktoken.model",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
)
_OTHER_FILES: Final = (
    CONFIG_FILE,
    INDEX_FILE,
    TOKENIZER_CONFIG,
    GENERATION_CONFIG,
    TEMPLATE_FILE,
    TEMPLATE_TABLE,
    "hf_quant_config.json",
)


class FolderFiles(Struct, frozen=True):
    """Names of the files of a folder that would be read, each kind in its order."""

    others: tuple[str, ...]
    tokenizer: tuple[str, ...]
    weights: tuple[str, ...]


def list_files(folder: Path) -> FolderFiles:
    """What is there of a model. Raises OSError for a folder that cannot be listed."""
    present = {entry.name for entry in folder.iterdir()}
    named: list[str] = []
    if NAMED_TEMPLATES in present:
        found = sorted((folder / NAMED_TEMPLATES).glob("*.jinja"))
        named = [f"{NAMED_TEMPLATES}/{entry.name}" for entry in found]
    return FolderFiles(
        others=(*(name for name in _OTHER_FILES if name in present), *named),
        tokenizer=tuple(name for name in TOKENIZER_FILES if name in present),
        weights=tuple(sorted(name for name in present if fnmatch(name, WEIGHTS_GLOB))),
    )


def added_file(record: ModelRecord) -> str:
    """A file that would be read now and was not there at registration; empty without one.

    A record without files promises nothing; that a folder is gone is told by those that it has.
    """
    known = {entry.name for entry in record.files}
    try:
        found = list_files(Path(record.path)) if known else None
    except OSError:
        found = None
    if found is None:
        return ""
    present = (*found.others, *found.tokenizer, *found.weights)
    return next((name for name in present if name not in known), "")

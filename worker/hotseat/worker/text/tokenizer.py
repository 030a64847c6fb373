"""Opens the tokenizer of a model folder: mlx-lm's, with templates it does not find by itself.

Must not know models, messages or records.
"""

import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from mlx_lm.tokenizer_utils import _infer_tool_parser
from mlx_lm.utils import load_tokenizer

from hotseat.protocol.model_files import (
    NAMED_TEMPLATES,
    TEMPLATE_FILE,
    TEMPLATE_TABLE,
    TOKENIZER_CONFIG,
    list_files,
)

_PARSERS: Final = "mlx_lm.tool_parsers"
_TEMPLATE: Final = "chat_template"
_OWN_TEMPLATES: Final = (_TEMPLATE, "chat_template_type")
_WITH_TOOLS: Final = ("tool_use", "default")


def open_tokenizer(folder: Path, end_ids: Iterable[int], tool_parser: str = "") -> Any:
    """An mlx_lm `TokenizerWrapper` whose `eos_token_ids` are `end_ids` and its own.

    `tool_parser` is that of an earlier opening; of formats that mlx-lm has no reader for, the
    template tells again. Raises whatever transformers' parsers raise.
    """
    # Unsaid, transformers asks whoever sits at the terminal whether to run the folder's code.
    extra = _template_of_processor(folder) | {"trust_remote_code": False}
    if tool_parser and importlib.util.find_spec(f"{_PARSERS}.{tool_parser}") is not None:
        extra["tool_parser_type"] = tool_parser
    ends = sorted(set(end_ids)) or None
    tokenizer = load_tokenizer(folder, extra, eos_token_ids=ends)
    if tokenizer.has_tool_calling or not isinstance(tokenizer.chat_template, dict):
        return tokenizer
    # mlx-lm looks for calls in a single template only.
    named = tokenizer.chat_template
    text = next((named[name] for name in _WITH_TOOLS if name in named), "")
    found = _infer_tool_parser(SimpleNamespace(chat_template=text, get_vocab=tokenizer.get_vocab))
    if found is None:
        return tokenizer
    return load_tokenizer(folder, extra | {"tool_parser_type": found}, eos_token_ids=ends)


def _template_of_processor(folder: Path) -> dict[str, Any]:
    """Setting of a template that only a processor would read, if the tokenizer has none."""
    others = list_files(folder).others
    if TEMPLATE_TABLE not in others or TEMPLATE_FILE in others:
        return {}
    if any(name.startswith(NAMED_TEMPLATES) for name in others):
        return {}
    config = _read_object(folder / TOKENIZER_CONFIG) if TOKENIZER_CONFIG in others else {}
    if any(config.get(key) for key in _OWN_TEMPLATES):
        return {}
    template = _read_object(folder / TEMPLATE_TABLE).get(_TEMPLATE)
    return {_TEMPLATE: template} if template else {}


def _read_object(file: Path) -> dict[str, Any]:
    value = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise TypeError(f"{file.name} is no JSON object")
    return value

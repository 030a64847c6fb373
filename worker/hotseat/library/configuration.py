"""What a config.json says of sizes, under the names that families use. Pure."""

from collections.abc import Mapping
from typing import Any, Final

_CONTEXT_KEYS: Final = (
    "max_position_embeddings",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "n_positions",
    "n_ctx",
    "model_max_length",
)


def text_table(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The table of the part that reads and writes text: nested where a model sees images too."""
    nested = config.get("text_config")
    return {**config, **nested} if isinstance(nested, dict) else config


def stated_context(config: Mapping[str, Any]) -> int:
    """Tokens a context may have; 0 if nothing is said."""
    nested = config.get("text_config")
    tables = (config, nested if isinstance(nested, dict) else {})
    return next(
        (found for table in tables for key in _CONTEXT_KEYS if (found := _positive(table, key))), 0
    )


def stated_heads(config: Mapping[str, Any]) -> int:
    """Heads of attention, of the queries; 0 if nothing is said."""
    return first_positive(text_table(config), "num_attention_heads", "n_heads", "n_head")


def first_positive(table: Mapping[str, Any], *keys: str) -> int:
    """The first of these fields that is a positive whole number; 0 if none is."""
    return next((found for key in keys if (found := _positive(table, key))), 0)


def _positive(table: Mapping[str, Any], key: str) -> int:
    value = table.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return max(value, 0)

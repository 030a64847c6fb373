"""Builds a model of a folder, lazily, by mlx-lm and with what its configuration leaves unsaid.

For whoever looks at a model as for whoever loads it, so that both see the same one. Evaluates
nothing; must not know records or memory.
"""

from pathlib import Path
from typing import Any, Final

import mlx.core as mx
from mlx_lm.utils import _get_classes, load_config, load_model

from hotseat.protocol.model_files import list_files
from hotseat.worker.model.beside_text import earlier_name, part_beside_text

_TIED: Final = "tie_word_embeddings"
_EARLIER_NAMES: Final = frozenset({"gemma3", "pixtral", "lfm2-vl"})
"""Kinds whose code knows only the names that transformers wrote before its version 5."""
_HEAD: Final = "lm_head.weight"


def build_model(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The model with lazy weights, and its configuration. Raises what mlx-lm raises."""
    config = load_config(folder)
    # trust_remote_code stays off: a model folder is data.
    model, config = load_model(
        folder,
        lazy=True,
        model_config=_unsaid(folder, config),
        get_model_classes=_text_classes,
        trust_remote_code=False,
    )
    return model, config


def _text_classes(config: dict[str, Any]) -> tuple[type, type]:
    """mlx-lm's classes of a kind; what a checkpoint has beside text is no error in theirs.

    Few kinds of mlx-lm leave it out by themselves, and not under every name that it has.
    """
    model_class, arguments_class = _get_classes(config)

    class TextModel(model_class):  # type: ignore[misc, valid-type]
        def sanitize(self, weights: dict[str, Any]) -> dict[str, Any]:
            if config["model_type"] in _EARLIER_NAMES:
                weights = {earlier_name(name): array for name, array in weights.items()}
            own = getattr(super(), "sanitize", dict)(weights)
            modules = {path for path, _ in self.named_modules()}
            layers = len(getattr(self, "layers", ()))
            return {
                name: array
                for name, array in own.items()
                if name.rpartition(".")[0] in modules or not part_beside_text(name, layers)
            }

    return TextModel, arguments_class


def _unsaid(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Fields that mlx-lm would fill with a default that is not this model's."""
    nested = config.get("text_config")
    text: dict[str, Any] = nested if isinstance(nested, dict) else {}
    found: dict[str, Any] = {}
    if "vocab_size" not in config and isinstance(text.get("vocab_size"), int):
        found["vocab_size"] = text["vocab_size"]
    if _TIED in config or _TIED in text or not _has_head(folder):
        return found
    # The default of many is to tie, which throws the head away that the weights have.
    if text:
        found["text_config"] = text | {_TIED: False}
    return found | {_TIED: False}


def _has_head(folder: Path) -> bool:
    """True if the weights have an output layer of their own."""
    return any(
        name == _HEAD or name.endswith(f".{_HEAD}")
        for file in list_files(folder).weights
        for name in _tensor_names(folder / file)
    )


def _tensor_names(file: Path) -> list[str]:
    arrays: Any = mx.load(str(file))
    return list(arrays)

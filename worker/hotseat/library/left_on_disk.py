"""What of a folder's weights nobody loads, as the names of its tensors tell. Must not know mlx."""

from typing import Final

from hotseat.library.configuration import first_positive, text_table
from hotseat.library.folder import ModelFolder
from hotseat.worker.model.beside_text import BesideText, part_beside_text

_READ_ALL: Final = frozenset({"muse_spark"})
"""Kinds of which mlx-lm builds what sees, too."""


def part_of(folder: ModelFolder, name: str) -> BesideText:
    """What a tensor of the folder is for; empty for what is loaded."""
    if folder.config.get("model_type") in _READ_ALL:
        return ""
    layers = first_positive(text_table(folder.config), "num_hidden_layers", "num_layers")
    return part_beside_text(name, layers)


def left_on_disk(folder: ModelFolder) -> tuple[str, ...]:
    """Each thing that there are weights for and that stays on disk."""
    found = {part for name in folder.tensors if (part := part_of(folder, name))}
    return tuple(sorted(found))


def beside_bytes(folder: ModelFolder) -> int:
    """Bytes of the tensors that stay on disk."""
    return sum(
        tensor.size_bytes for name, tensor in folder.tensors.items() if part_of(folder, name)
    )

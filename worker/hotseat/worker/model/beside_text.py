"""Which tensors of a checkpoint do not belong to the part that reads and writes text. Pure.

Checkpoints bring towers for images and sound, and layers that draft tokens ahead; nothing here
runs them, so that they stay on disk.
"""

import re
from typing import Final, Literal

BesideText = Literal["", "images", "sound", "drafting"]

_TOWERS: Final[dict[str, BesideText]] = {
    "vision_tower": "images",
    "vision_model": "images",
    "vision_encoder": "images",
    "vision_adapter": "images",
    "vision_projection": "images",
    "vision_language_adapter": "images",
    "visual": "images",
    "embed_vision": "images",
    "multi_modal_projector": "images",
    "mm_projector": "images",
    "patch_merger": "images",
    "pre_mm_projector_norm": "images",
    "audio_tower": "sound",
    "audio_encoder": "sound",
    "embed_audio": "sound",
}
"""Modules by the names that the makers of checkpoints give them."""
_DRAFT: Final = re.compile(r"mtp(_.+|\d*)")
_PUBLISHED: Final = (
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
    ("model.vision_tower.", "vision_tower."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
)
"""Of a model that sees: names that transformers writes, and those of its earlier versions."""
_LAYER: Final = re.compile(r"(?:^|\.)layers\.(\d+)\.")


def part_beside_text(name: str, layers: int) -> BesideText:
    """What a tensor is for, by its name in a model of `layers` layers; empty for text.

    `layers` is 0 where the number is not known. A layer beyond the last one drafts.
    """
    for segment in name.split("."):
        if segment in _TOWERS:
            return _TOWERS[segment]
        if _DRAFT.fullmatch(segment):
            return "drafting"
    found = _LAYER.search(name)
    return "drafting" if found and 0 < layers <= int(found[1]) else ""


def earlier_name(name: str) -> str:
    """What a tensor of a model that sees was called before all of it lay below `model.`."""
    for ours, before in _PUBLISHED:
        if name.startswith(ours):
            return before + name.removeprefix(ours)
    return name

"""The classes of memory with their colours and names, and a bar of characters. Pure."""

from typing import Final

from msgspec import Struct

from hotseat.protocol.telemetry import Sample


class Shade(Struct, frozen=True):
    """One class: attribute of a sample, name, colour on a terminal, colour in a picture, letter."""

    attribute: str
    name: str
    style: str
    colour: str
    letter: str


CLASSES: Final = (
    Shade("weights_bytes", "weights", "blue", "#3b6fb6", "W"),
    Shade("live_kv_bytes", "live KV", "green", "#3d9a50", "K"),
    Shade("runtime_bytes", "runtime", "cyan", "#4fb3bf", "r"),
    Shade("standby_bytes", "standby", "magenta", "#9a6fb0", "s"),
    Shade("other_bytes", "other", "bright_black", "#8a8f98", "o"),
    Shade("free_bytes", "free", "white", "#e6e8ec", "."),
)
"""From the bottom of the stack to its top."""


def shares(sample: Sample, width: int) -> list[tuple[Shade, int]]:
    """How many of `width` cells each class gets; largest remainders, so that the sum is `width`."""
    total = max(1, sample.total_bytes)
    exact = [getattr(sample, shade.attribute) * width / total for shade in CLASSES]
    cells = [int(value) for value in exact]
    left = width - sum(cells)
    order = sorted(range(len(exact)), key=lambda place: cells[place] - exact[place])
    for place in order[: max(0, left)]:
        cells[place] += 1
    return list(zip(CLASSES, cells, strict=True))

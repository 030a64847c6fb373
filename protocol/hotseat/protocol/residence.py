"""What of a model's weights stays in memory while it is seated, and what passes through."""

from typing import Final, Literal

from msgspec import Struct

CHOSEN_FIELDS: Final = ("num_experts_per_tok", "moe_topk", "top_k_experts", "num_experts_per_token")
"""Names that configurations have for the experts of a token."""
SORTED_FROM: Final = 64
"""Rows times experts a token from which mlx-lm sorts them (mlx_lm/models/switch_layers.py): a call
takes all experts of a layer then."""


class Residence(Struct, frozen=True, kw_only=True):
    """How a model that is larger than its memory is seated; None stands for a whole one.

    `layers`: those of `streamed` are read again with every step, through `rooms` that hold one
    layer each. `experts`: every layer with experts has `slots` of them in memory; a call that needs
    more takes a room that holds all experts of a layer.
    """

    mode: Literal["layers", "experts"]
    streamed: tuple[int, ...] = ()
    """Places in the model's list of layers, ascending."""
    rooms: int = 2
    slots: int = 0
    rows: int = 0
    """Requests that decode at once, at most; 0: as many as there is memory for."""


class WeightParts(Struct, frozen=True, kw_only=True):
    """What a model's weights are made of, bytes: what a plan may leave on the disk."""

    layers: tuple[int, ...]
    """Each of the model's layers."""
    outside: int
    """Everything that is in no layer."""
    layers_refused: str = ""
    """Why layers cannot be read to where they are used; empty if they can."""
    experts: tuple[int, ...] = ()
    """All experts of each layer that has some."""
    expert_count: int = 0
    chosen: int = 0
    """Experts that a token goes through, in each of these layers."""
    experts_refused: str = ""

    @property
    def total(self) -> int:
        """All weights as they are in memory."""
        return self.outside + sum(self.layers)


class StreamedView(Struct, frozen=True, kw_only=True):
    """What of a model that does not fit whole is in memory, and what a token costs then.

    `held` of `of` layers, or of the experts of each layer, stay; the others are read from the disk.
    """

    mode: Literal["layers", "experts"]
    held: int
    of: int
    resident_bytes: int
    """Weights in memory, with the rooms that the others pass through."""
    step_bytes: int
    """Weights that are read from the disk for one token, at most."""
    tokens_per_s: float | None = None
    """What the disk's measured rate allows, if all of them are read; None: never measured."""

    @property
    def words(self) -> str:
        """What is where, for people."""
        what = "layers" if self.mode == "layers" else "experts a layer"
        return f"{self.held} of {self.of} {what} in memory"


def resident_bytes(parts: WeightParts, residence: Residence) -> int:
    """Weights in memory, rooms among them; layers of one size share rooms."""
    if residence.mode == "experts":
        one = sum(size // parts.expert_count for size in parts.experts)
        rooms = residence.rooms * max(parts.experts)
        return parts.total - sum(parts.experts) + rooms + residence.slots * one
    sizes = [parts.layers[number] for number in residence.streamed]
    passing = sum(size * min(residence.rooms, sizes.count(size)) for size in set(sizes))
    return parts.total - sum(sizes) + passing


def spread_evenly(total: int, streamed: int) -> tuple[int, ...]:
    """Which of `total` layers are streamed so that reading never rests: as even as can be."""
    return tuple(int((number + 0.5) * total / streamed) for number in range(streamed))

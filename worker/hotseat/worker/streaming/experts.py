"""Layers with experts of which some are in memory: the hook on the module that chooses among them.

The model's own code computes with slots instead of experts and with the numbers of slots instead
of those of experts: the same products of the same bytes. A call that needs more experts than there
are slots computes with all experts of the layer, read into a room, and leaves the most used of
them in slots. Once a layer the choice of the router has to come to the host.

Metal chooses the kernel of a gathered product by rows over experts of the array
(mlx/backend/metal/quantized.cpp): sorted rows that are many for the slots, though few for all
experts, would take another one than the whole model. mlx-lm sorts from 64 rows on
(switch_layers.py), so such a call takes the room.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import mlx.core as mx
import numpy as np

from hotseat.protocol.residence import SORTED_FROM
from hotseat.worker.streaming.layers import LayerRooms, ParameterPlaces
from hotseat.worker.streaming.places import NotStreamableError, Place, places_of
from hotseat.worker.streaming.reading import Readers, finish
from hotseat.worker.streaming.slots import Move, SlotTable
from hotseat.worker.streaming.targets import Target

_MADE: Final = 16
"""Results of a layer that are kept until it is certain that they are computed."""
_SWITCHES: Final = frozenset({"SwitchGLU", "SwitchMLP"})


class ExpertBank:
    """Slots of one layer, and the room its calls take that need more."""

    def __init__(
        self,
        number: int,
        module: Any,
        places: Mapping[str, Place],
        slots: int,
        rooms: LayerRooms,
        readers: Readers,
    ) -> None:
        self._number = number
        self._places = places
        self._rooms = rooms
        self._readers = readers
        self.experts = next(iter(places.values())).shape[0]
        self._table = SlotTable(self.experts, slots)
        targets = {key: Target([place], slots) for key, place in places.items()}
        self._arrays = {key: target.array(places[key]) for key, target in targets.items()}
        self._memory = {key: target.memory(places[key]) for key, target in targets.items()}
        self._own = ParameterPlaces(module, places)
        self._own.put(self._arrays)
        self._made: list[mx.array] = []
        self.hits = 0
        self.asked = 0

    def renamed(self, indices: mx.array) -> mx.array | None:
        """Slots in place of experts, all of them filled; None where there are too few slots."""
        chosen = np.array(indices)
        if chosen.size >= SORTED_FROM:
            return None
        needed = [int(expert) for expert in np.unique(chosen)]
        if len(needed) > self._table.slots:
            return None
        self.asked += len(needed)
        if any(self._table.slot_of[expert] < 0 for expert in needed):
            self._settle()
        moves = self._table.need(needed)
        self.hits += len(needed) - len(moves)
        self._read(moves)
        return mx.array(self._table.slot_of[chosen].astype(np.uint32))

    def compute_whole(self, module: Any, base: type, x: mx.array, indices: mx.array) -> mx.array:
        """With all experts of the layer, which are in a room meanwhile."""
        self._own.put(self._rooms.enter(self._number))
        try:
            result: mx.array = base.__call__(module, x, indices)
            mx.eval(result)
            used = np.bincount(np.array(indices).reshape(-1), minlength=self.experts)
            self._keep([int(count) for count in used])
        finally:
            self._own.put(self._arrays)
            self._rooms.leave(self._number)
        return result

    def note(self, result: mx.array) -> None:
        """What was made of the slots as they are: computed before one of them is read into."""
        self._made.append(result)
        if len(self._made) > _MADE:
            self._settle()

    def _settle(self) -> None:
        """What failed to be computed is nobody's any more, and is not computed again."""
        made, self._made = self._made, []
        mx.eval(made)

    def close(self) -> None:
        """Nothing is read any more."""
        self._rooms.rooms.close()

    def _read(self, moves: Sequence[Move]) -> None:
        jobs = []
        try:
            for move in moves:
                for key, place in self._places.items():
                    offset, size = place.row(move.expert)
                    into = self._memory[key][move.slot * size : (move.slot + 1) * size]
                    jobs += self._readers.begin(place.path, offset, into)
            finish(jobs)
        except BaseException:
            self._table.forget(moves)
            raise

    def _keep(self, used: Sequence[int]) -> None:
        """Copies what the call used most from the room, which is still held."""
        self._settle()
        for move in self._table.keep_most_used(used):
            for key, memory in self._rooms.memory_of(self._number).items():
                size = self._places[key].size // self.experts
                self._memory[key][move.slot * size : (move.slot + 1) * size] = memory[
                    move.expert * size : (move.expert + 1) * size
                ]


def stream_experts(
    model: Any, slots: int, count: int, places: Mapping[str, Place], readers: Readers
) -> list[ExpertBank]:
    """Hooks every module that chooses among experts. Raises NotStreamableError."""
    switches, found = switches_of(model), experts_of(model, places)
    rooms = LayerRooms(found, count, readers)
    rooms.check(switches[0][1], 0)
    banks = []
    for number, (_, module) in enumerate(switches):
        bank = ExpertBank(number, module, found[number], slots, rooms, readers)
        _hook(module, bank)
        banks.append(bank)
    return banks


def switches_of(model: Any) -> list[tuple[str, Any]]:
    """Modules that choose among experts, by name, in the order of the layers."""
    found = [
        (name, module)
        for name, module in model.named_modules()
        if type(module).__name__ in _SWITCHES
    ]
    return sorted(found, key=lambda pair: _numbers(pair[0]))


def experts_of(model: Any, places: Mapping[str, Place]) -> dict[int, dict[str, Place]]:
    """Where the experts of each such module lie. Raises NotStreamableError."""
    switches = switches_of(model)
    if not switches:
        raise NotStreamableError("the model has no layers with experts that could be read apart")
    found = {
        number: places_of(module, name, places) for number, (name, module) in enumerate(switches)
    }
    _check_alike(found)
    return found


def _check_alike(found: Mapping[int, Mapping[str, Place]]) -> None:
    first = {key: (place.shape, place.dtype) for key, place in found[0].items()}
    for number, places in found.items():
        if {key: (place.shape, place.dtype) for key, place in places.items()} != first:
            raise NotStreamableError(f"experts of layer {number} are shaped unlike the first")


def _hook(module: Any, bank: ExpertBank) -> None:
    base = type(module)

    def call(self: Any, x: mx.array, indices: mx.array) -> mx.array:
        slots = bank.renamed(indices)
        if slots is None:
            return bank.compute_whole(self, base, x, indices)
        result: mx.array = base.__call__(self, x, slots)
        bank.note(result)
        return result

    module.__class__ = type(f"Streamed{base.__name__}", (base,), {"__call__": call})


def _numbers(name: str) -> list[int]:
    return [int(part) for part in name.split(".") if part.isdigit()]

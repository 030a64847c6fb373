"""Layers of which some pass through rooms: the hook on their class, the rooms they take.

No model file is touched and no module rebuilt: the class of a streamed layer is a subclass whose
call waits for a room, takes its arrays as parameters, computes, and gives the room back. Output
and caches are evaluated before that, since what is lazy would read a room that is another's.
Between two calls the layer has no parameters: code that uses parts of it by itself fails.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from hotseat.worker.streaming.places import NotStreamableError, Place, places_of
from hotseat.worker.streaming.reading import Job, Readers, finish
from hotseat.worker.streaming.rooms import Rooms
from hotseat.worker.streaming.targets import Target, bytes_of

SPOIL_VARIABLE: Final = "HOTSEAT_SPOIL_ROOMS"
"""Set: a room that is given back is filled with what no weight is, so that its use is seen."""
_SPOILT: Final = b"\xff"
"""Of a float in any of the types: not a number."""
_DEPTH: Final = 6
"""Of objects below a cache: lists of caches hold caches that hold arrays."""
Signature = tuple[type, tuple[tuple[str, tuple[int, ...], str], ...]]


class LayerRooms:
    """The rooms of layers of one kind: the same class, names, shapes and types."""

    def __init__(
        self, places: Mapping[int, Mapping[str, Place]], count: int, readers: Readers
    ) -> None:
        keys = next(iter(places.values()))
        self._places = places
        self._readers = readers
        self._targets = [
            {key: Target(found[key] for found in places.values()) for key in keys}
            for _ in range(min(count, len(places)))
        ]
        self._held: dict[int, int] = {}
        self._is_spoilt = bool(os.environ.get(SPOIL_VARIABLE))
        self.rooms: Rooms[list[Job]] = Rooms(
            len(self._targets), sorted(places), self._begin, finish
        )

    def enter(self, number: int) -> Mapping[str, mx.array]:
        """The layer's parameters, once they are in memory; they are its until `leave`."""
        room = self.rooms.take(number)
        self._held[number] = room
        targets = self._targets[room]
        return {key: targets[key].array(place) for key, place in self._places[number].items()}

    def leave(self, number: int) -> None:
        """Nothing lazy is left that would use the room."""
        if self._is_spoilt:
            for memory in self.memory_of(number).values():
                memory[:] = _SPOILT * len(memory)
        del self._held[number]
        self.rooms.give(number)

    def check(self, layer: Any, number: int) -> None:
        """Raises NotStreamableError where what mlx-lm made of a layer is not what the files have.

        Its own parameters are computed for that: of one layer of a kind, as it was loaded.
        """
        loaded = dict(tree_flatten(layer.parameters()))
        self._held[number] = self.rooms.take(number)
        memory = self.memory_of(number)
        for key, array in loaded.items():
            if not np.array_equal(np.asarray(bytes_of(array)), np.asarray(memory[key])):
                raise NotStreamableError(f"layer {number} is not loaded as its file has it: {key}")
        self.leave(number)

    def memory_of(self, number: int) -> Mapping[str, memoryview]:
        """Of the room that a layer holds now, by parameter."""
        return self._memory(number, self._held[number])

    def _memory(self, number: int, room: int) -> Mapping[str, memoryview]:
        targets = self._targets[room]
        return {key: targets[key].memory(place) for key, place in self._places[number].items()}

    def _begin(self, number: int, room: int) -> list[Job]:
        memory = self._memory(number, room)
        return [
            job
            for key, place in self._places[number].items()
            for job in self._readers.begin(place.path, place.offset, memory[key])
        ]


def stream_layers(
    model: Any, streamed: Sequence[int], count: int, places: Mapping[str, Place], readers: Readers
) -> list[LayerRooms]:
    """Hooks the layers of `streamed`, `count` rooms to each kind. Raises NotStreamableError.

    The model was loaded lazily and nothing of these layers has been evaluated.
    """
    layers: Sequence[Any] = model.layers
    names = {id(module): name for name, module in model.named_modules()}
    kinds: dict[Signature, dict[int, dict[str, Place]]] = {}
    for number in streamed:
        found = places_of(layers[number], names[id(layers[number])], places)
        kinds.setdefault(_signature(layers[number], found), {})[number] = found
    made = []
    for members in kinds.values():
        rooms = LayerRooms(members, count, readers)
        made.append(rooms)
        first = min(members)
        rooms.check(layers[first], first)
        for number, found in members.items():
            _hook(layers[number], number, rooms, ParameterPlaces(layers[number], found))
    return made


def _signature(layer: Any, places: Mapping[str, Place]) -> Signature:
    shapes = ((key, place.shape, str(place.dtype)) for key, place in places.items())
    return type(layer), tuple(sorted(shapes))


class ParameterPlaces:
    """Where a module keeps its parameters: they can be put there, and taken away."""

    def __init__(self, module: Any, keys: Iterable[str]) -> None:
        self._places = [(*_parent_of(module, key), key) for key in keys]

    def put(self, arrays: Mapping[str, mx.array]) -> None:
        """These are the parameters."""
        for parent, leaf, key in self._places:
            parent[leaf] = arrays[key]

    def take_away(self) -> None:
        """Whoever uses the module now gets an error, not what another one's room holds."""
        for parent, leaf, _ in self._places:
            del parent[leaf]


def _parent_of(module: Any, key: str) -> tuple[Any, str]:
    *path, leaf = key.split(".")
    for name in path:
        module = module[int(name)] if isinstance(module, list) else module[name]
    return module, leaf


def _hook(layer: Any, number: int, rooms: LayerRooms, own: ParameterPlaces) -> None:
    base = type(layer)
    own.take_away()

    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        own.put(rooms.enter(number))
        try:
            result = base.__call__(self, *arguments, **options)
            # What it left in caches is lazy too.
            mx.eval(result, arrays_in((arguments, options)))
        finally:
            own.take_away()
            rooms.leave(number)
        return result

    layer.__class__ = type(f"Streamed{base.__name__}", (base,), {"__call__": call})


def arrays_in(value: Any, depth: int = _DEPTH) -> list[mx.array]:
    """All arrays that a value holds: itself, in collections, in attributes of caches."""
    if isinstance(value, mx.array):
        return [value]
    if depth == 0 or value is None or isinstance(value, str | bytes | int | float | type):
        return []
    if isinstance(value, dict):
        parts: Sequence[Any] = list(value.values())
    elif isinstance(value, list | tuple):
        parts = value
    else:
        parts = list(getattr(value, "__dict__", {}).values())
    return [array for part in parts for array in arrays_in(part, depth - 1)]

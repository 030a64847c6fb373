"""Where the bytes of each parameter lie: files of safetensors, offsets, shapes. Reads headers only.

A parameter is streamed when the file has it under the model's own name, with the shape and type
that the model computes with: then its bytes can be read to where they are used. What mlx-lm
renames, transposes, stacks or converts while it loads cannot, and is told with the reason.
"""

import os
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
import msgspec
from mlx.utils import tree_flatten
from msgspec import Struct

from hotseat.protocol.residence import Residence

_LAYER: Final = re.compile(r"\blayers\.(\d+)\.")
_EXPERT_AXES: Final = 3
_LENGTH: Final = struct.Struct("<Q")
_METADATA: Final = "__metadata__"
_TYPES: Final = {
    "F32": mx.float32,
    "F16": mx.float16,
    "BF16": mx.bfloat16,
    "U32": mx.uint32,
    "U16": mx.uint16,
    "U8": mx.uint8,
    "I32": mx.int32,
    "I16": mx.int16,
    "I8": mx.int8,
}
"""By the names of the format; what is missing is converted by whoever loads it."""


class NotStreamableError(Exception):
    """Weights that cannot be read to where they are used; the text says which and why."""


class _Tensor(Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class Place(Struct, frozen=True):
    """Of one tensor: file, first byte, bytes, and what they are."""

    path: Path
    offset: int
    size: int
    shape: tuple[int, ...]
    dtype: mx.Dtype | None

    def row(self, number: int) -> tuple[int, int]:
        """Offset and bytes of one entry along the first axis."""
        size = self.size // self.shape[0]
        return self.offset + number * size, size


_HEADER: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENTRY: Final = msgspec.json.Decoder(_Tensor)


def find_places(files: Iterable[Path]) -> dict[str, Place]:
    """All tensors of the files by name. Raises OSError, and ValueError for a damaged header."""
    found: dict[str, Place] = {}
    for path in files:
        first, tensors = _tensors_of(path)
        for name, tensor in tensors.items():
            start, end = tensor.data_offsets
            found[name] = Place(
                path,
                first + start,
                end - start,
                tensor.shape,
                _TYPES.get(tensor.dtype),
            )
    return found


def _tensors_of(path: Path) -> tuple[int, dict[str, _Tensor]]:
    """Where the bytes of a file begin, and which tensors they are."""
    with path.open("rb") as stream:
        try:
            length = _LENGTH.unpack(stream.read(_LENGTH.size))[0]
            size = os.fstat(stream.fileno()).st_size
            table = _HEADER.decode(stream.read(min(length, size)))
            table.pop(_METADATA, None)
            found = {name: _ENTRY.decode(raw) for name, raw in table.items()}
        except (struct.error, msgspec.MsgspecError) as error:
            raise ValueError(f"{path} has no header of safetensors: {error}") from error
    return _LENGTH.size + length, found


def stays(name: str, place: Place, residence: Residence, expert_count: int) -> bool:
    """Whether the tensor of this name is in memory all the time; told by names and shapes alone.

    For whoever reads ahead before there is a model: a wrong answer costs time and nothing else.
    """
    layer = _LAYER.search(name)
    if residence.mode == "layers":
        return layer is None or int(layer[1]) not in residence.streamed
    # The router has as many rows, and one axis less.
    is_expert = len(place.shape) >= _EXPERT_AXES and place.shape[0] == expert_count
    return layer is None or not is_expert


def places_of(module: Any, name: str, places: Mapping[str, Place]) -> dict[str, Place]:
    """Of each parameter of a module, by its name there. Raises NotStreamableError."""
    found = {}
    for key, array in tree_flatten(module.parameters()):
        place = places.get(f"{name}.{key}")
        if place is None:
            raise NotStreamableError(f"no file has {name}.{key} under this name")
        if place.shape != tuple(array.shape) or place.dtype != array.dtype:
            raise NotStreamableError(
                f"{name}.{key} is {place.shape} {place.dtype} in the file and"
                f" {tuple(array.shape)} {array.dtype} in the model"
            )
        found[key] = place
    if not found:
        raise NotStreamableError(f"{name} has no weights")
    return found

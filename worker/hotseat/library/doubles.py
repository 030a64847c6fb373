"""Tensors that stand in several files of a folder: harmless where they are the same. Reads those.

mlx-lm loads every weight file in the order in which the system lists them; what a file left over
from another version says of a tensor would hold on one machine and not on the next.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from hotseat.library.folder import ModelFolder, TensorHeader, read_tensors, unavailable
from hotseat.protocol.limits import MIB

_PIECE: Final = 4 * MIB


class _Copy(Struct, frozen=True):
    """A tensor in one file; `start` is where its bytes begin there."""

    file: Path
    header: TensorHeader
    start: int


def refuse_other_doubles(folder: ModelFolder) -> None:
    """Raises model_unavailable for a tensor that two files tell differently."""
    first: dict[str, _Copy] = {}
    for file in folder.weights:
        tensors = read_tensors(file)
        data = file.stat().st_size - max(
            (one.data_offsets[1] for one in tensors.values()), default=0
        )
        for name, header in tensors.items():
            copy = _Copy(file, header, data + header.data_offsets[0])
            other = first.setdefault(name, copy)
            if other is not copy and not _is_same(other, copy):
                raise unavailable(
                    folder.path,
                    f"{other.file.name} and {file.name} tell tensor {name} differently",
                    "remove the file that is left over from another version",
                    file=file.name,
                    tensor=name,
                )


def _is_same(one: _Copy, other: _Copy) -> bool:
    if (one.header.dtype, one.header.shape) != (other.header.dtype, other.header.shape):
        return False
    return all(left == right for left, right in zip(_pieces(one), _pieces(other), strict=True))


def _pieces(copy: _Copy) -> Iterator[bytes]:
    left = copy.header.size_bytes
    with copy.file.open("rb") as stream:
        stream.seek(copy.start)
        while left > 0:
            piece = stream.read(min(_PIECE, left))
            if not piece:
                return
            left -= len(piece)
            yield piece

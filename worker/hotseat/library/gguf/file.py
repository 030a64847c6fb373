"""Reads the header of a GGUF file: metadata and where each tensor lies. Must not know models.

A reader of our own because the `gguf` package's takes 11 s for a vocabulary of 262k entries; the
layout is the one the package documents. Only little-endian files of version 2 and 3. A model that
was split into several files is one, whichever of them is named.
"""

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from hotseat.library.folder import unavailable
from hotseat.library.gguf.parts import part_files
from hotseat.library.gguf.value_types import ARRAY, MAGIC, SCALARS, STRING, VERSIONS
from hotseat.protocol.limits import GIB, MIB

Value = str | int | float | bool | list[Any]

_DEFAULT_ALIGNMENT: Final = 32
_LISTED: Final = 16
"""Parts that are named, at most."""
_HEADER_LIMIT: Final = GIB
_MAX_ENTRIES: Final = 1_000_000
_FIRST_READ: Final = 32 * MIB


class TensorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor as it lies in `file`; `shape` has the row length last, as numpy has it."""

    name: str
    file: Path
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int
    size_bytes: int


class GgufFile(msgspec.Struct, frozen=True, kw_only=True):
    """Parsed header of a model. `path` is its first part where it has several."""

    path: Path
    metadata: Mapping[str, Value]
    tensors: Mapping[str, TensorInfo]

    def read(self, name: str) -> np.ndarray:
        """Raw bytes of a tensor, (rows, bytes per row), mapped and not copied."""
        tensor = self.tensors[name]
        rows = math.prod(tensor.shape[:-1])
        mapped = np.memmap(
            tensor.file, np.uint8, mode="r", offset=tensor.offset, shape=(tensor.size_bytes,)
        )
        return mapped.reshape(rows, -1)


def open_gguf(path: Path) -> GgufFile:
    """Header of `path`, and of the parts that belong to it.

    Raises `HotseatError` model_unavailable if one is damaged, cut short or missing.
    """
    opened = _open_one(path)
    count = opened.metadata.get("split.count", 0)
    if not isinstance(count, int) or count <= 1:
        return opened
    files = part_files(path)
    missing = [file.name for file in files if not file.is_file()]
    if len(files) != count or missing:
        raise _not_all_parts(path, count, files, missing)
    parts = [_open_one(file) for file in files]
    tensors = {name: tensor for part in parts for name, tensor in part.tensors.items()}
    expected = parts[0].metadata.get("split.tensors.count", len(tensors))
    if len(tensors) != expected:
        raise _damaged(
            path, f"its {count} parts hold {len(tensors)} tensors, {expected} are expected"
        )
    return GgufFile(path=files[0], metadata=parts[0].metadata, tensors=tensors)


def _not_all_parts(path: Path, count: int, files: list[Path], missing: list[str]) -> Exception:
    names = [file.name for file in files]
    what = f"not here: {', '.join(missing[:_LISTED])}" if missing else "its name does not say so"
    return unavailable(
        path,
        f"it is one of {count} parts of a split file; {what}",
        "put all parts into one folder under the names they were published with "
        "(NAME-00001-of-00003.gguf)",
        parts=names,
        missing=missing,
    )


def _open_one(path: Path) -> GgufFile:
    size = path.stat().st_size
    wanted = _FIRST_READ
    while True:
        with path.open("rb") as stream:
            data = stream.read(min(wanted, size, _HEADER_LIMIT))
        try:
            return _parse(path, data, size)
        except (struct.error, _ShortError) as error:
            if len(data) in (size, _HEADER_LIMIT):
                raise _damaged(path, "its header ends early") from error
        wanted *= 4


class _ShortError(Exception):
    """The bytes read so far end inside the header."""


class _Cursor:
    """Position in the header bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def scalar(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self.data, self.at)
        self.at += struct.calcsize(code)
        return value

    def text(self) -> str:
        length = self.scalar("Q")
        end = self.at + length
        if end > len(self.data):
            raise _ShortError
        value = self.data[self.at : end].decode("utf-8", "replace")
        self.at = end
        return value

    def value(self, kind: int) -> Value:
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            return self.array()
        if kind not in SCALARS:
            raise ValueError(f"value of unknown type {kind}")
        scalar: int | float | bool = self.scalar(SCALARS[kind])
        return scalar

    def array(self) -> list[Any]:
        kind, count = self.scalar("I"), self.scalar("Q")
        if count > len(self.data):
            raise _ShortError
        if kind in SCALARS:
            layout = np.dtype(SCALARS[kind]).newbyteorder("<")
            end = self.at + count * layout.itemsize
            if end > len(self.data):
                raise _ShortError
            values: list[Any] = np.frombuffer(self.data[self.at : end], layout).tolist()
            self.at = end
            return values
        return [self.value(kind) for _ in range(count)]


def _parse(path: Path, data: bytes, size: int) -> GgufFile:
    if data[:4] != MAGIC:
        raise _damaged(path, "it does not start with GGUF")
    cursor = _Cursor(data)
    cursor.at = len(MAGIC)
    version = cursor.scalar("I")
    if version not in VERSIONS:
        raise unavailable(path, f"GGUF version {version}", "use a file of version 2 or 3")
    tensor_count, entry_count = cursor.scalar("Q"), cursor.scalar("Q")
    if max(tensor_count, entry_count) > _MAX_ENTRIES:
        raise _damaged(path, f"it claims {tensor_count} tensors and {entry_count} entries")
    metadata: dict[str, Value] = {}
    infos: list[tuple[str, tuple[int, ...], int, int]] = []
    try:
        for _ in range(entry_count):
            key = cursor.text()
            metadata[key] = cursor.value(cursor.scalar("I"))
        for _ in range(tensor_count):
            name = cursor.text()
            dimensions = cursor.scalar("I")
            shape = tuple(cursor.scalar("Q") for _ in range(dimensions))[::-1]
            infos.append((name, shape, cursor.scalar("I"), cursor.scalar("Q")))
    except (ValueError, RecursionError, OverflowError) as error:
        raise _damaged(path, f"its header is not readable ({error})") from error
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise _damaged(path, f"alignment of {alignment!r}")
    start = -(-cursor.at // alignment) * alignment
    tensors = {info[0]: _tensor(path, info, start, size) for info in infos}
    return GgufFile(path=path, metadata=metadata, tensors=tensors)


def _tensor(
    path: Path, info: tuple[str, tuple[int, ...], int, int], start: int, size: int
) -> TensorInfo:
    name, shape, kind_number, offset = info
    try:
        kind = GGMLQuantizationType(kind_number)
        items, block_bytes = GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError) as error:
        raise unavailable(
            path,
            f"tensor {name} is of unknown type {kind_number}",
            "use a file of a common quantisation such as Q4_K_M or Q8_0",
        ) from error
    count = math.prod(shape)
    if not shape or count < 1 or shape[-1] % items:
        raise _damaged(path, f"tensor {name} has an impossible shape {shape}")
    size_bytes = count // items * block_bytes
    if start + offset + size_bytes > size:
        raise _damaged(
            path,
            f"tensor {name} ends at byte {start + offset + size_bytes}, the file has {size}",
        )
    return TensorInfo(
        name=name,
        file=path,
        shape=shape,
        kind=kind,
        offset=start + offset,
        size_bytes=size_bytes,
    )


def _damaged(path: Path, what: str) -> Exception:
    return unavailable(path, f"damaged: {what}", "download this file again")

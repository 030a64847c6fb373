"""The first facts of a GGUF file, up to its vocabulary. Reads a few KiB of files of any size.

`gguf/file.py` reads the whole header, vocabulary included, which takes too long for a list of
files. Whatever the bytes are, the answer is a table or `HotseatError`.
"""

import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from hotseat.library.folder import unavailable
from hotseat.library.gguf.value_types import ARRAY, MAGIC, SCALARS, STRING, VERSIONS
from hotseat.protocol.limits import MIB

_MAX_ENTRIES: Final = 100_000
_MAX_TEXT_BYTES: Final = MIB
_LONG_LIST: Final = 1024
"""A list of more texts than this is the vocabulary: what is asked for stands before it."""


class _Vocabulary(Exception):  # noqa: N818 - where reading ends, not a failure
    """Everything that was asked for has been read."""


def read_head(file: Path) -> Mapping[str, Any]:
    """Metadata in front of the vocabulary; long lists of numbers are None.

    Raises `HotseatError` (model_unavailable) for bytes that are no header.
    """
    if not file.is_file():  # opening a pipe would wait for whoever writes to it
        raise unavailable(file, "it is no file", "give a .gguf file")
    try:
        with file.open("rb") as stream:
            return parse_head(stream, os.fstat(stream.fileno()).st_size)
    except (struct.error, ValueError, OSError, OverflowError) as error:
        raise unavailable(
            file, f"damaged: its header is not readable ({error})", "download this file again"
        ) from error


def parse_head(stream: BinaryIO, size_bytes: int) -> Mapping[str, Any]:
    """As `read_head`, of a file of that size; `ValueError` or `struct.error` for other bytes."""
    return _Reader(stream, size_bytes).table()


class _Reader:
    """Position in a file whose lengths are checked before they are believed."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream = stream
        self._size = size_bytes

    def table(self) -> Mapping[str, Any]:
        if self._bytes(len(MAGIC)) != MAGIC:
            raise ValueError("it does not start with GGUF")
        version = self._scalar("I")
        if version not in VERSIONS:
            raise ValueError(f"version {version}; 2 and 3 are known")
        tensors, entries = self._scalar("Q"), self._scalar("Q")
        if max(tensors, entries) > _MAX_ENTRIES:
            raise ValueError(f"it claims {tensors} tensors and {entries} entries")
        found: dict[str, Any] = {}
        try:
            for _ in range(entries):
                key = self._text()
                found[key] = self._value(self._scalar("I"))
        except _Vocabulary:
            pass
        return found

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._text()
        if kind == ARRAY:
            return self._list()
        if kind not in SCALARS:
            raise ValueError(f"value of unknown type {kind}")
        return self._scalar(SCALARS[kind])

    def _list(self) -> Any:
        kind, count = self._scalar("I"), self._scalar("Q")
        if kind in SCALARS:
            if count <= _LONG_LIST:
                return [self._scalar(SCALARS[kind]) for _ in range(count)]
            self._skip(count * struct.calcsize(f"<{SCALARS[kind]}"))
            return None
        if kind != STRING:
            raise ValueError(f"list of unknown type {kind}")
        if count > _LONG_LIST:
            raise _Vocabulary
        return [self._text() for _ in range(count)]

    def _text(self) -> str:
        length = self._scalar("Q")
        if length > _MAX_TEXT_BYTES:
            raise ValueError(f"a text of {length} bytes")
        return self._bytes(length).decode("utf-8", "replace")

    def _scalar(self, code: str) -> Any:
        layout = f"<{code}"
        (value,) = struct.unpack(layout, self._bytes(struct.calcsize(layout)))
        return value

    def _bytes(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) != count:
            raise ValueError("it ends early")
        return data

    def _skip(self, count: int) -> None:
        if self._stream.tell() + count > self._size:
            raise ValueError("it ends early")
        self._stream.seek(count, os.SEEK_CUR)

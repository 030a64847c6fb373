"""Checks and digests the files of an MLX model folder. Must not know mlx: bytes and JSON only.

Everything that would fail at load time and can be seen in headers fails here, with a way out.
"""

import hashlib
import json
import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from hotseat.library.progress import ByteProgress, OnProgress
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import MIB
from hotseat.protocol.model import FileDigest
from hotseat.protocol.model_files import (
    CONFIG_FILE,
    INDEX_FILE,
    TOKENIZER_CONFIG,
    WEIGHTS_GLOB,
    list_files,
)
from hotseat.protocol.tags import DIGEST_BYTES

_VOCABULARIES: Final = ("tokenizer.json", "tokenizer.model", "tiktoken.model", "vocab.json")
_FOREIGN_VOCABULARIES: Final = ("tekken.json", "qwen.tiktoken", "hy.tiktoken", "vocab.txt")
"""Of their makers' own libraries."""
_HEADER_LIMIT: Final = 100 * MIB
_TABLE_LIMIT: Final = 64 * MIB
_LENGTH: Final = struct.Struct("<Q")
_LEAST: Final = len(b"{}")
_METADATA: Final = "__metadata__"
_READ_BYTES: Final = 4 * MIB
_ITEM_BITS: Final = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F4": 4,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}


class TensorHeader(msgspec.Struct, frozen=True):
    """A tensor as it lies in the file; offsets count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]

    @property
    def size(self) -> int:
        """Numbers in it, packed ones counting once."""
        product = 1
        for length in self.shape:
            product *= length
        return product

    @property
    def size_bytes(self) -> int:
        """As it lies in the file."""
        return self.data_offsets[1] - self.data_offsets[0]


_TABLE: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TENSOR: Final = msgspec.json.Decoder(TensorHeader)


class ModelFolder(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that passed the checks; the tables are parsed JSON."""

    path: Path
    config: dict[str, Any]
    tokenizer_config: dict[str, Any]
    weights: tuple[Path, ...]
    tokenizer: tuple[Path, ...]
    others: tuple[Path, ...]
    tensors: Mapping[str, TensorHeader]


def open_folder(path: Path, *, needs_tokenizer: bool = True) -> ModelFolder:
    """Checks configuration, weight headers and tokenizer; `HotseatError` model_unavailable."""
    config = read_table(path / CONFIG_FILE)
    if config is None:
        raise unavailable(
            path, "it has no config.json", "choose the folder that holds config.json and weights"
        )
    if not isinstance(config.get("model_type"), str):
        raise unavailable(path, "config.json names no model_type", "download the model again")
    files = list_files(path)
    weights = tuple(path / name for name in files.weights)
    if not weights:
        raise unavailable(
            path,
            f"it has no weights ({WEIGHTS_GLOB})",
            "convert the model to MLX safetensors, or import its GGUF file",
        )
    tensors = {name: tensor for file in weights for name, tensor in read_tensors(file).items()}
    _check_index(path, files.weights, tensors)
    tokenizer = tuple(path / name for name in files.tokenizer)
    if needs_tokenizer and not {file.name for file in tokenizer} & set(_VOCABULARIES):
        other = next((name for name in _FOREIGN_VOCABULARIES if (path / name).is_file()), "")
        beside = f", only {other}, which transformers does not read" if other else ""
        raise unavailable(
            path,
            f"it has no tokenizer (tokenizer.json or tokenizer.model){beside}",
            "fetch an MLX conversion, which brings tokenizer.json"
            if other
            else "download the model again, tokenizer files included",
        )
    return ModelFolder(
        path=path,
        config=config,
        tokenizer_config=read_table(path / TOKENIZER_CONFIG) or {},
        weights=weights,
        tokenizer=tokenizer,
        others=tuple(path / name for name in files.others),
        tensors=tensors,
    )


def _check_index(path: Path, weights: tuple[str, ...], tensors: Collection[str]) -> None:
    """Every tensor of a shard that is not there has to be in another file.

    An index of which no shard is there belongs to other weights: building the model tells whether
    those in the folder are whole.
    """
    index = read_table(path / INDEX_FILE) or {}
    table = index.get("weight_map", {})
    shards = table if isinstance(table, dict) else {}
    named = {str(name) for name in shards.values()}
    missing = sorted(named - set(weights))
    lost = [name for name, shard in shards.items() if shard in missing and name not in tensors]
    if lost and len(missing) < len(named):
        raise unavailable(
            path,
            f"{len(missing)} of {len(named)} weight files of {INDEX_FILE} are missing: "
            f"{', '.join(missing[:3])}",
            "download the missing files, or remove the index if it belongs to other weights",
            missing=missing,
        )


def read_tensors(file: Path) -> Mapping[str, TensorHeader]:
    """The tensors of a file by name. Raises model_unavailable for a header that does not fit it."""
    size = file.stat().st_size
    if not file.is_file():  # opening a pipe would wait for whoever writes to it
        raise _damaged(file, "it is no file")
    with file.open("rb") as stream:
        lead = stream.read(_LENGTH.size)
        length = _LENGTH.unpack(lead)[0] if len(lead) == _LENGTH.size else 0
        if not _LEAST <= length <= min(size - _LENGTH.size, _HEADER_LIMIT):
            raise _damaged(file, f"a header of {length} bytes does not fit its {size} bytes")
        raw = stream.read(length)
    try:
        table = _TABLE.decode(raw)
        tensors = {key: _TENSOR.decode(entry) for key, entry in table.items() if key != _METADATA}
        end = max((_tensor_end(name, entry) for name, entry in tensors.items()), default=0)
    except (ValueError, RecursionError) as error:
        raise _damaged(file, f"its header is not readable ({error})") from error
    if _LENGTH.size + length + end != size:
        raise _damaged(file, f"its header promises {_LENGTH.size + length + end} bytes, has {size}")
    return tensors


def _tensor_end(name: str, entry: TensorHeader) -> int:
    """Offset behind a tensor, checked against its shape."""
    start, end = entry.data_offsets
    bits = _ITEM_BITS.get(entry.dtype)
    is_sized = bits is None or end - start == entry.size * bits // 8
    if start < 0 or end < start or min(entry.shape, default=0) < 0 or not is_sized:
        raise ValueError(f"tensor {name}: shape and offsets disagree")
    return end


def read_table(file: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None if there is no such file."""
    try:
        if (size := file.stat().st_size) > _TABLE_LIMIT:
            raise _damaged(file, f"{size} bytes are no configuration")
        value = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError, OSError) as error:
        raise _damaged(file, f"it is not readable JSON ({error})") from error
    if not isinstance(value, dict):
        raise _damaged(file, "it is no JSON object")
    return value


def digest_files(folder: ModelFolder, on_progress: OnProgress) -> dict[str, FileDigest]:
    """blake2b-128 of every file that belongs to the model, by its name in the folder."""
    files = [*folder.others, *folder.tokenizer, *folder.weights]
    progress = ByteProgress(on_progress, "digest", sum(file.stat().st_size for file in files))
    names = {str(file.relative_to(folder.path)): file for file in files}
    return {
        name: msgspec.structs.replace(digest_file(file, progress), name=name)
        for name, file in names.items()
    }


def digest_file(file: Path, progress: ByteProgress) -> FileDigest:
    """blake2b-128 of a file that does not change meanwhile."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    before = file.stat()
    with file.open("rb") as stream:
        while piece := stream.read(_READ_BYTES):
            digest.update(piece)
            progress.add(len(piece))
    after = file.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise unavailable(
            file, "it changed while it was read", "wait for the download to end, then import again"
        )
    return FileDigest(
        name=file.name,
        size_bytes=after.st_size,
        mtime_ns=after.st_mtime_ns,
        blake2b=digest.hexdigest(),
    )


def unavailable(path: Path, what: str, remedy: str, **facts: Any) -> HotseatError:
    """model_unavailable: what failed about which path, and the way out."""
    return HotseatError(
        "model_unavailable", f"{path}: {what}; {remedy}", path=str(path), remedy=remedy, **facts
    )


@contextmanager
def refusing(
    path: Path, what: str, remedy: str, kinds: tuple[type[Exception], ...] = (Exception,)
) -> Iterator[None]:
    """Turns what a library raises over a strange file into model_unavailable with its words."""
    try:
        yield
    except kinds as error:
        reason = words_of(error)
        raise unavailable(path, f"{what} ({reason})", remedy, reason=reason) from error


def words_of(error: Exception) -> str:
    """What an error says, on one line and not for ever."""
    if isinstance(error, KeyError):  # says nothing but the key
        return f"no entry {error}"
    return " ".join(str(error).split())[:300] or type(error).__name__


def _damaged(file: Path, what: str) -> HotseatError:
    return unavailable(file, f"damaged: {what}", "download this file again", file=file.name)

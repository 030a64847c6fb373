"""What a setting may be: kinds with their ranges, and words for both. Must not know any setting.

A title names a kind; a description says how it is written where the range does not say it.
"""

import re
import sys
from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from msgspec import Meta

from hotseat.protocol.limits import BLOCK_TOKENS, MAX_PRIORITY

_LAST_FLOAT: Final = sys.float_info.max
"""Keeps infinity out; NaN is within no bounds."""
_LAST_INT: Final = 2**63 - 1
"""Of TOML, and of what SQLite and MessagePack can carry."""
_CHUNKS: Final = f"write a divisor or a multiple of {BLOCK_TOKENS}"
_QUOTED: Final = 'write it in quotes, "/..."'
_LISTED: Final = 'write a list of texts, ["..."]'
_LIMIT: Final = re.compile(r"[<>]=? \S+")

Seconds = Annotated[float, Meta(gt=0.0, le=_LAST_FLOAT, title="seconds")]
Share = Annotated[float, Meta(ge=0.0, le=1.0, title="number")]
Factor = Annotated[float, Meta(ge=0.0, le=10.0, title="number")]
Penalty = Annotated[float, Meta(ge=-2.0, le=2.0, title="number")]
Count = Annotated[int, Meta(gt=0, le=_LAST_INT, title="whole number")]
Choices = Annotated[int, Meta(ge=0, le=_LAST_INT, title="whole number")]
ChunkTokens = Annotated[int, Meta(gt=0, le=_LAST_INT, title="whole number", description=_CHUNKS)]
Bytes = Annotated[int, Meta(ge=0, le=_LAST_INT, title="size", description='write bytes, or "8GiB"')]
FilePath = Annotated[str, Meta(pattern=r"^[^\0]+\Z", title="path", description=_QUOTED)]
"""A file or a folder: absolute, or as seen from the settings' own folder."""
NameOfModel = Annotated[str, Meta(title="model name", description="see `hotseat models`")]
Finite = Annotated[float, Meta(ge=-_LAST_FLOAT, le=_LAST_FLOAT)]
Port = Annotated[int, Meta(ge=1, le=65_535, title="whole number from 1 to 65535")]
Priority = Annotated[
    int, Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY, title="whole number from -10 to 10")
]
Texts = Annotated[tuple[str, ...], Meta(max_length=64, title="list of texts", description=_LISTED)]
Address = Annotated[str, Meta(pattern=r"^\S+\Z", title="text", description="write it in quotes")]
"""A name or a URL: no blanks."""
Argument = bool | Annotated[int, Meta(ge=-_LAST_INT, le=_LAST_INT)] | Finite | str


def plain_kind(hint: Any) -> Any:
    """`X` of `X | None`: a file has nothing that stands for None."""
    parts = get_args(hint)
    return parts[0] if NoneType in parts else hint


def goes_with_blocks(chunk_tokens: int) -> bool:
    """Whether chunks of that size begin and end where blocks do."""
    return chunk_tokens % BLOCK_TOKENS == 0 or BLOCK_TOKENS % chunk_tokens == 0


def in_words(kind: Any) -> str:
    """What may be written, with its range: `whole number above 0`."""
    if get_origin(kind) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(kind))
    if get_origin(kind) is Mapping:
        return "table of plain values"
    if kind is bool:
        return "true or false"
    base, meta = get_args(kind)
    if meta.gt is not None:
        return f"{meta.title} above {meta.gt:g}"
    return f"{meta.title} from {meta.ge:g} to {meta.le:g}" if base is float else str(meta.title)


def remedy_for(kind: Any) -> str:
    """What to write instead of something else."""
    if kind is bool:
        return "write one of them"
    if get_origin(kind) is Literal:
        return f"write one of {list(get_args(kind))}"
    if kind == Argument:
        return "write text in quotes, a number, true or false"
    article = "" if kind == Seconds else "a "
    return get_args(kind)[1].description or f"write {article}{in_words(kind)}, no quotes"


def explain_refusal(kind: Any, error: str) -> str:
    """What is wrong with a value for which msgspec has that error."""
    if kind is bool:
        return "is neither true nor false"
    if get_origin(kind) is Literal:
        return "is no choice"
    if kind == Argument:
        return "is no plain value"
    limit = _LIMIT.search(error)
    if limit:
        return f"is not {limit[0]}"
    if error.endswith("out of range"):
        return "is out of range"
    base, meta = get_args(kind)
    return f"is no {'number' if base is float else meta.title}"

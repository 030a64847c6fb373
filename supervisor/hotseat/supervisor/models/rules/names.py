"""Names of models as people and other programs write them: `qwen3:8b`, `mlx-community/X`. Pure."""

import re
from collections.abc import Iterable
from typing import Final

_TYPED: Final = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._\-]*/)?([A-Za-z0-9][A-Za-z0-9._:@+\-]*)")
"""A name with an owner in front, or without; paths are neither."""
_WORD: Final = re.compile(r"\d+(?:\.\d+)*[a-z]*|[a-z]+")
_MEANINGLESS: Final = frozenset({"latest", "mlx", "gguf"})


def match_typed(asked: str, known: Iterable[str]) -> str | None:
    """The one registered name that is meant; None where none or several could be.

    An owner in front is left out. The same words win; else the words stand in the name in a row.
    """
    typed = _TYPED.fullmatch(asked)
    wanted = _words(typed[1]) if typed is not None else ()
    if not wanted:
        return None
    words = {name: _words(name) for name in known}
    for is_meant in (_are_equal, _stand_in):
        found = [name for name, have in words.items() if is_meant(wanted, have)]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _words(name: str) -> tuple[str, ...]:
    """`Qwen3-8B` and `qwen3:8b` are both qwen, 3, 8b."""
    return tuple(word for word in _WORD.findall(name.lower()) if word not in _MEANINGLESS)


def _are_equal(wanted: tuple[str, ...], have: tuple[str, ...]) -> bool:
    return wanted == have


def _stand_in(wanted: tuple[str, ...], have: tuple[str, ...]) -> bool:
    size = len(wanted)
    return any(have[at : at + size] == wanted for at in range(len(have) - size + 1))

"""How deep the brackets of a body nest, found before it is decoded. Pure.

Eight quotes and brackets at a time, by a table of what they do, so that a body of nothing else
costs little more than one of text.
"""

import functools
import itertools
import sys
from typing import Any, Final

_QUOTE, _OPEN = b'"['
_LETTERS: Final = b'"[]'
_WORD_BYTES: Final = 8
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_ELSE: Final = bytes(set(range(256)) - set(b'"[]{}'))

_Table = dict[int, tuple[int, int, Any]]
"""What a word does: change of depth, the most on the way, the table for the next word."""


def is_deeper(body: bytes, limit: int) -> bool:
    """True if brackets outside of strings nest deeper. Whether they match is not looked at."""
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    if b"\\" in body:
        body = body.replace(rb"\\", b"").replace(rb"\"", b"")
    # Two quotes beside each other change nothing, whatever they begin or end.
    plain = body.translate(_ONE_KIND, _ELSE).replace(b'""', b"")
    plain += b"]" * (-len(plain) % _WORD_BYTES)
    table, depth = _outside(), 0
    for word in memoryview(plain).cast("Q"):
        change, most, table = table[word]
        if depth + most > limit:
            return True
        depth += change
    return False


@functools.cache
def _outside() -> _Table:
    """The table for words that begin outside of a string; it leads to the one for inside."""
    outside, inside = _Table(), _Table()
    for letters in itertools.product(_LETTERS, repeat=_WORD_BYTES):
        word = int.from_bytes(bytes(letters), sys.byteorder)
        for table, begins_inside in ((outside, False), (inside, True)):
            change, most, is_inside = _steps(letters, is_inside=begins_inside)
            table[word] = change, most, inside if is_inside else outside
    return outside


def _steps(letters: tuple[int, ...], *, is_inside: bool) -> tuple[int, int, bool]:
    depth = most = 0
    for letter in letters:
        if letter == _QUOTE:
            is_inside = not is_inside
        elif not is_inside:
            depth += 1 if letter == _OPEN else -1
            most = max(most, depth)
    return depth, most, is_inside

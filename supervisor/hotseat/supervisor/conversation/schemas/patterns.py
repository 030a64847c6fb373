"""Patterns of JSON schemas as trees, as far as they are taken. Pure.

Taken is what ECMA-262 and the worker's grammar library mean the same by: characters, classes,
groups, choices, repetitions, `^` and `$` at the edges. Must not know schemas.
"""

from typing import Final

from msgspec import Struct

MAX_REPEATED: Final = 500
"""Characters that repetitions may stand for; a grammar becomes too large beyond it."""
MAX_REPEATED_WHOLE: Final = 4096
"""The same in a pattern from `^` to `$`, which costs a grammar less."""
LAST_CODE: Final = 0x10FFFF
Ranges = tuple[tuple[int, int], ...]
_ANY: Final[Ranges] = ((0, LAST_CODE),)
_DIGITS: Final[Ranges] = ((0x30, 0x39),)
_WORD: Final[Ranges] = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACE: Final[Ranges] = (
    *((0x09, 0x0D), (0x20, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A)),
    *((0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000)),
)
_CLASSES: Final = {"d": _DIGITS, "w": _WORD, "s": _SPACE}
_CONTROLS: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}
_PUNCTUATION: Final = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ ")
_CATEGORIES: Final = {
    *("L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N", "Nd", "Nl", "No"),
    *("P", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S", "Sm", "Sc", "Sk", "So"),
    *("Z", "Zs", "Zl", "Zp"),
}


class PatternError(Exception):
    """The pattern is none that is taken; the text says why."""


class Chars(Struct, frozen=True):
    """One character out of sorted ranges."""

    ranges: Ranges


class Edge(Struct, frozen=True):
    """`^` or `$`."""

    is_start: bool


class Repeat(Struct, frozen=True):
    """A node so many times; `most` None is without end."""

    node: "Node"
    least: int
    most: int | None


class Row(Struct, frozen=True):
    """One node after the other."""

    nodes: tuple["Node", ...]


class Choice(Struct, frozen=True):
    """One of several."""

    nodes: tuple["Node", ...]


Node = Chars | Edge | Repeat | Row | Choice


def read_pattern(text: str) -> Node:
    """The pattern as a tree. Raises PatternError."""
    reader = _Reader(text)
    node = reader.choice()
    if reader.peek():
        raise PatternError(f"no group is open at position {reader.at}")
    _check_edges(node, is_first=True, is_last=True)
    size, most = _size(node), MAX_REPEATED_WHOLE if _is_whole(node) else MAX_REPEATED
    if size > most:
        raise PatternError(f"its repetitions stand for {size} characters, at most {most} are taken")
    return node


class _Reader:
    """Recursive descent over one pattern."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._depth = 0
        self.at = 0

    def peek(self, text: str = "") -> bool:
        """True if `text` comes next; without it, if anything does."""
        return self._text.startswith(text, self.at) and self.at < len(self._text)

    def choice(self) -> Node:
        """Alternatives, up to the end or a closing bracket."""
        self._depth += 1
        if self._depth > 50:  # noqa: PLR2004 - deeper than anybody reads
            raise PatternError("groups are nested more than 50 deep")
        nodes = [self._row()]
        while self._take("|"):
            nodes.append(self._row())
        self._depth -= 1
        return nodes[0] if len(nodes) == 1 else Choice(tuple(nodes))

    def _row(self) -> Node:
        nodes: list[Node] = []
        while self.peek() and not self.peek("|") and not self.peek(")"):
            node = self._atom()
            nodes.append(node if isinstance(node, Edge) else self._repeated(node))
        return Row(tuple(nodes))

    def _atom(self) -> Node:
        char = self._next()
        match char:
            case "(":
                node = self._group()
            case "[":
                node = self._class()
            case "^" | "$":
                node = Edge(is_start=char == "^")
            case "*" | "+" | "?" | "{":
                raise PatternError(f"nothing stands before {char!r} that could be repeated")
            case ".":
                node = Chars(_without(((0x0A, 0x0A),)))
            case "\\":
                node = Chars(self._escape())
            case _:
                node = Chars(_only(char))
        return node

    def _group(self) -> Node:
        if self._take("?<") and not self.peek("=") and not self.peek("!"):
            while self.peek() and not self._take(">"):
                if not (self._next().isalnum() or self._text[self.at - 1] == "_"):
                    raise PatternError("the name of a group has other characters than letters")
        elif self._text[self.at - 2 : self.at] == "?<" or self.peek("?=") or self.peek("?!"):
            raise PatternError("looking ahead or behind cannot be enforced")
        elif self.peek("?") and not self._take("?:"):
            raise PatternError("flags in a pattern are not taken")
        node = self.choice()
        if not self._take(")"):
            raise PatternError("a group is not closed")
        return node

    def _repeated(self, node: Node) -> Node:
        least, most = self._counts()
        if (least, most) == (1, 1):
            return node
        self._take("?")  # lazy: the same texts match
        if self._counts() != (1, 1):
            raise PatternError("a repetition is repeated; put it in a group")
        return Repeat(node, least, most)

    def _counts(self) -> tuple[int, int | None]:
        for sign, counts in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return counts
        if not self._take("{"):
            return 1, 1
        least, comma, most = self._until("}").partition(",")
        if not least.isdecimal() or (most and not most.isdecimal()):
            raise PatternError("a repetition is {n}, {n,} or {n,m}")
        if most and int(most) < int(least):
            raise PatternError(f"a repetition cannot go from {least} to {most}")
        if not comma:
            return int(least), int(least)
        return int(least), int(most) if most else None

    def _class(self) -> Node:
        is_not = self._take("^")
        if self.peek("]"):
            raise PatternError("a class of no characters")
        found: list[tuple[int, int]] = []
        while not self._take("]"):
            if any(self.peek(sign) for sign in ("[", "&&", "--", "~~")):
                raise PatternError("a class has a sign in it that other readers take for their own")
            first = self._class_atom()
            is_range = self.peek("-") and not self.peek("-]") and not self.peek("--")
            if not is_range:
                found += first
                continue
            self._take("-")
            last = self._class_atom()
            if len(first) > 1 or len(last) > 1 or first[0][0] > last[0][1]:
                raise PatternError("a range in a class goes backwards or has a class at its end")
            if first[0][0] != first[0][1] or last[0][0] != last[0][1]:
                raise PatternError("a range in a class goes from a character to a character")
            found.append((first[0][0], last[0][1]))
        ranges = _merged(found)
        return Chars(_without(ranges) if is_not and ranges != _ANY else ranges)

    def _class_atom(self) -> Ranges:
        char = self._next()
        return self._escape() if char == "\\" else _only(char)

    def _escape(self) -> Ranges:
        char = self._next()
        if char.lower() in _CLASSES:
            ranges = _CLASSES[char.lower()]
            return _without(ranges) if char.isupper() else ranges
        if char in "pP":
            name = self._until("}") if self._take("{") else self._next()
            if name not in _CATEGORIES:
                raise PatternError(f"no category of characters is called {name[:20]!r}")
            return _ANY  # a superset: what is compared with it overlaps rather than not
        if char in _CONTROLS:
            return _only(_CONTROLS[char])
        if char in "xu":
            return self._code(2 if char == "x" else 4)
        if char in _PUNCTUATION:
            return _only(char)
        raise PatternError(f"the escape \\{char} is not taken")

    def _code(self, digits: int) -> Ranges:
        if self._take("{"):
            text = self._until("}")
        else:
            text = self._text[self.at : self.at + digits]
            self.at += digits
        try:
            code = int(text, 16)
        except ValueError:
            raise PatternError(f"{text[:20]!r} is no code of a character") from None
        if code > LAST_CODE or 0xD800 <= code <= 0xDFFF:  # noqa: PLR2004 - halves of a pair
            raise PatternError(f"{text[:20]!r} is no code of a character")
        return ((code, code),)

    def _until(self, end: str) -> str:
        found = self._text.find(end, self.at)
        if found < 0:
            raise PatternError(f"{end!r} is missing")
        text, self.at = self._text[self.at : found], found + 1
        return text

    def _take(self, text: str) -> bool:
        if not self.peek(text):
            return False
        self.at += len(text)
        return True

    def _next(self) -> str:
        if not self.peek():
            raise PatternError("it ends in the middle")
        self.at += 1
        return self._text[self.at - 1]


def _only(char: str) -> Ranges:
    return ((ord(char), ord(char)),)


def _merged(ranges: list[tuple[int, int]]) -> Ranges:
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return tuple(found)


def _without(ranges: Ranges) -> Ranges:
    found, low = [], 0
    for start, end in ranges:
        if low < start:
            found.append((low, start - 1))
        low = end + 1
    return (*found, (low, LAST_CODE)) if low <= LAST_CODE else tuple(found)


def _check_edges(node: Node, *, is_first: bool, is_last: bool) -> None:
    """`^` stands first and `$` last, or a grammar cannot hold them."""
    match node:
        case Edge(is_start=is_start):
            if not (is_first if is_start else is_last):
                sign = "^" if is_start else "$"
                raise PatternError(f"{sign!r} is taken at the edge of a pattern only")
        case Choice(nodes=nodes):
            for one in nodes:
                _check_edges(one, is_first=is_first, is_last=is_last)
        case Row(nodes=nodes):
            for at, one in enumerate(nodes):
                first = is_first and all(isinstance(n, Edge) for n in nodes[:at])
                last = is_last and all(isinstance(n, Edge) for n in nodes[at + 1 :])
                _check_edges(one, is_first=first, is_last=last)
        case Repeat(node=inner):
            _check_edges(inner, is_first=False, is_last=False)
        case Chars():
            pass


def _size(node: Node) -> int:
    match node:
        case Repeat(node=inner, least=least, most=most):
            return max(1, least, most or 0) * _size(inner)
        case Row(nodes=nodes) | Choice(nodes=nodes):
            return sum(map(_size, nodes))
        case Chars():
            return 1
        case Edge():
            return 0


def _is_whole(node: Node) -> bool:
    """True if nothing may stand before or behind what the pattern says."""
    nodes = node.nodes if isinstance(node, Row) else ()
    return len(nodes) > 1 and nodes[0] == Edge(is_start=True) and nodes[-1] == Edge(is_start=False)

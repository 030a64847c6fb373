"""Schemas that come back to themselves, and what a grammar cannot put together. Pure.

A tree of any depth is fine. A value that has to hold another of its kind has no end, and where
several schemas hold for one value a grammar merges them, which some cannot be.
"""

from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct

from hotseat.protocol.json_schema import APPLICATORS, ENFORCED, escape
from hotseat.supervisor.conversation.schemas.walk import SchemaError, Walked, types_of

Edges = Callable[[Walked, str], Iterator[str]]
MAX_NESTED: Final = 300
"""Schemas in schemas, through references too: the library's stack ends at some thousands."""
_UNMERGED: Final = ("patternProperties", "minProperties", "maxProperties")


class Part(Struct, frozen=True):
    """What stands in a schema, or in one that holds for the same value, and cannot be merged."""

    is_recursive: bool = False
    keyword: str = ""


def check_loops(walked: Walked) -> None:
    """Raises SchemaError at a value without end, or at schemas that cannot be merged."""
    _check_depth(walked)
    for circle in _circles(walked, Walked.in_place):
        raise SchemaError(circle[0], "it refers to itself for the very value it is for")
    for circle in _circles(walked, _needed):
        raise SchemaError(circle[0], "a value of it has to hold another of its kind, without end")
    parts: dict[str, Part] = {}
    in_circles = {place for circle in _circles(walked, Walked.inner) for place in circle}
    # Circles come bottom up, so what a schema holds in place was looked at before it.
    for group in _Groups(walked, Walked.in_place).found:
        for place in group:
            parts[place] = _part(walked, place, parts, in_circles)
    for place in walked.reachable():
        if _merges(walked, place):
            _check_merged(place, parts[place])


def _check_depth(walked: Walked) -> None:
    entered = {""}
    way = [walked.inner("")]
    while way:
        step = next(way[-1], None)
        if step is None:
            way.pop()
        elif step not in entered:
            entered.add(step)
            way.append(walked.inner(step))
            if len(way) > MAX_NESTED:
                text = f"more than {MAX_NESTED} schemas stand in each other, references followed"
                raise SchemaError(step, f"{text}; make it flatter", is_sound=True)


def _check_merged(place: str, part: Part) -> None:
    if part.is_recursive:
        text = "a reference to a schema that refers to itself stands beside other constraints"
        raise SchemaError(place, f"{text}; let the reference stand alone", is_sound=True)
    if part.keyword:
        text = f"{part.keyword} is merged with other constraints of the same value"
        raise SchemaError(place, f"{text}, which cannot be enforced; use it alone", is_sound=True)


def _part(walked: Walked, place: str, parts: dict[str, Part], circles: set[str]) -> Part:
    below = [parts[one] for one in walked.in_place(place) if one in parts]
    target = walked.targets.get(place)
    own = next((key for key in _UNMERGED if key in walked.schemas[place]), "")
    return Part(
        is_recursive=target in circles or any(part.is_recursive for part in below),
        keyword=own or next((part.keyword for part in below if part.keyword), ""),
    )


def _merges(walked: Walked, place: str) -> bool:
    """True if more than one thing is said about the value at once."""
    one = walked.schemas[place]
    said = [key for key in APPLICATORS if key in one]
    own = [key for key in one if key in ENFORCED and key not in APPLICATORS]
    return len(said) + bool(own) + max(0, len(one.get("allOf", ())) - 1) > 1


def _needed(walked: Walked, place: str) -> Iterator[str]:
    """Places of the schemas that a value of this one cannot do without."""
    one = walked.schemas[place]
    found = [f"{place}/allOf/{number}" for number in range(len(one.get("allOf", ())))]
    found += [f"{place}/{key}/0" for key in ("anyOf", "oneOf") if len(one.get(key, ())) == 1]
    if types_of(one) == {"object"}:
        found += [f"{place}/properties/{escape(name)}" for name in one.get("required", ())]
    if types_of(one) == {"array"}:
        first = len(one.get("prefixItems", ()))
        least = int(one.get("minItems", 0))
        found += [f"{place}/prefixItems/{number}" for number in range(min(first, least))]
        found += [f"{place}/items"] if least > first else []
    if place in walked.targets:
        found.append(walked.targets[place])
    yield from (step for step in found if step in walked.schemas)


def _circles(walked: Walked, edges: Edges) -> list[list[str]]:
    """Groups of schemas of which each leads to each, itself included."""
    groups = _Groups(walked, edges).found
    return [group for group in groups if len(group) > 1 or group[0] in edges(walked, group[0])]


class _Groups:
    """Strongly connected groups, each after those it leads to (Tarjan, without recursion)."""

    def __init__(self, walked: Walked, edges: Edges) -> None:
        self._walked = walked
        self._edges = edges
        self._order: dict[str, int] = {}
        self._lowest: dict[str, int] = {}
        self._open: dict[str, None] = {}
        self.found: list[list[str]] = []
        for place in walked.schemas:
            if place not in self._order:
                self._visit(place)

    def _visit(self, root: str) -> None:
        way = [(root, self._enter(root))]
        while way:
            place, ahead = way[-1]
            step = next(ahead, None)
            if step is None:
                way.pop()
                self._leave(place)
                if way:
                    self._lower(way[-1][0], self._lowest[place])
            elif step not in self._order:
                way.append((step, self._enter(step)))
            elif step in self._open:
                self._lower(place, self._order[step])

    def _enter(self, place: str) -> Iterator[str]:
        self._order[place] = self._lowest[place] = len(self._order)
        self._open[place] = None
        return iter(self._edges(self._walked, place))

    def _lower(self, place: str, order: int) -> None:
        self._lowest[place] = min(self._lowest[place], order)

    def _leave(self, place: str) -> None:
        """Everything entered since is of its group if nothing leads out of it."""
        if self._lowest[place] < self._order[place]:
            return
        group = []
        while place in self._open:
            group.append(self._open.popitem()[0])
        self.found.append(group)

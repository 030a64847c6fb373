"""Whether two schemas can hold for the same value. Pure.

`oneOf` is enforced as a choice, which it is if no value is of two kinds. What cannot be told apart
counts as overlapping. Must not know grammars.
"""

import json
from itertools import combinations, product
from typing import Any, Final

from msgspec import Struct

from hotseat.protocol.json_schema import escape
from hotseat.supervisor.conversation.schemas.walk import SchemaError, Walked, types_of

_DEPTH: Final = 16
"""References and members that are followed to tell two schemas apart."""
_FACES: Final = 64
MAX_STEPS: Final = 100_000
"""Comparisons for one schema; a long choice of constants is an `enum`."""


class Face(Struct, frozen=True):
    """What is known of the values of a schema, or of one of its alternatives."""

    types: frozenset[str]
    values: frozenset[str] | None = None
    required: frozenset[str] = frozenset()
    members: dict[str, tuple[str, ...]] = {}
    """Places of the schemas that hold for a property."""


class Choices:
    """Tells the alternatives of every `oneOf` of a schema apart."""

    def __init__(self, walked: Walked) -> None:
        self._walked = walked
        self._steps = 0

    def check(self, place: str) -> None:
        """Raises SchemaError if a value could be of two alternatives of the `oneOf` there."""
        entries = self._walked.schemas[place].get("oneOf", ())
        numbers = [number for number, entry in enumerate(entries) if entry is not False]
        places = [f"{place}/oneOf/{number}" for number in numbers]
        for one, other in combinations(places, 2):
            if not self._are_apart(one, other, _DEPTH):
                first, second = one.rpartition("/")[2], other.rpartition("/")[2]
                raise SchemaError(
                    f"{place}/oneOf",
                    f"alternatives {first} and {second} may hold for the same value, which cannot "
                    "be ruled out; give them different types or a required constant, or use anyOf",
                    is_sound=True,
                )

    def _are_apart(self, one: str, other: str, depth: int) -> bool:
        pairs = product(self._faces(one, depth), self._faces(other, depth))
        return all(self._differ(left, right, depth) for left, right in pairs)

    def _differ(self, one: Face, other: Face, depth: int) -> bool:
        self._steps += 1
        if self._steps > MAX_STEPS:
            return False
        if not one.types & other.types:
            return True
        if one.values is not None and other.values is not None:
            return not one.values & other.values
        if one.types | other.types != {"object"}:
            return False
        shared = one.members.keys() & other.members.keys() & (one.required | other.required)
        return depth > 0 and any(
            self._are_apart(left, right, depth - 4)
            for name in shared
            for left, right in product(one.members[name], other.members[name])
        )

    def _faces(self, place: str, depth: int) -> list[Face]:
        one = self._walked.schemas.get(place)
        if one is None or depth <= 0:
            return [Face(types_of({}) - {"integer"})]
        faces = [_own(one, place)]
        for inner in self._walked.in_place(place):
            if "/anyOf/" not in inner[len(place) :] and "/oneOf/" not in inner[len(place) :]:
                faces = _both(faces, self._faces(inner, depth - 1))
        for key in ("anyOf", "oneOf"):
            if key in one:
                places = [f"{place}/{key}/{number}" for number in range(len(one[key]))]
                faces = _both(faces, [f for each in places for f in self._faces(each, depth - 1)])
        return faces


def _own(one: dict[str, Any], place: str) -> Face:
    kinds = frozenset("number" if kind == "integer" else kind for kind in types_of(one))
    values = None
    if "const" in one or "enum" in one:
        given = [one["const"]] if "const" in one else one["enum"]
        given = [value for value in given if value in one.get("enum", [value])]
        fitting = [value for value in given if kind_of(value) in kinds]
        values = frozenset(map(_canonical, fitting))
        kinds = frozenset(map(kind_of, fitting))
    names = one.get("properties", {})
    members: dict[str, tuple[str, ...]] = {
        name: (f"{place}/properties/{escape(name)}",) for name in names
    }
    return Face(kinds, values, frozenset(one.get("required", ())), members)


def _both(left: list[Face], right: list[Face]) -> list[Face]:
    """Faces of what both hold for; those of one alone are more, which is on the safe side."""
    if len(left) * len(right) > _FACES:
        return left
    return [_merged(one, other) for one, other in product(left, right)]


def _merged(one: Face, other: Face) -> Face:
    values = one.values if other.values is None else other.values
    if one.values is not None and other.values is not None:
        values = one.values & other.values
    members = {
        name: (*one.members.get(name, ()), *other.members.get(name, ()))
        for name in one.members | other.members
    }
    return Face(one.types & other.types, values, one.required | other.required, members)


def kind_of(value: Any) -> str:
    """The type of a JSON value, an integer being a number."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case dict():
            return "object"
        case _:
            return "array"


def _canonical(value: Any) -> str:
    """Equal values have the same text."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value

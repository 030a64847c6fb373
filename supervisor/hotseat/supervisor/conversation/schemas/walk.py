"""A JSON schema taken apart: every schema in it by its place, and where references lead. Pure.

Refuses what JSON Schema itself forbids. Must not know what a grammar can hold.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct

from hotseat.protocol.json_schema import (
    BOUNDS,
    COUNTS,
    LISTS,
    TABLES,
    TYPES,
    Schema,
    anchors,
    escape,
    inner_schemas,
    pointed_at,
    pointer_of,
)

_DEFINITIONS: Final = ("$defs", "definitions")
_SHOWN_CHARS: Final = 60


class SchemaError(Exception):
    """The schema at `place` is none that is taken; `is_sound` if JSON Schema has no objection."""

    def __init__(self, place: str, reason: str, *, is_sound: bool = False) -> None:
        super().__init__(reason)
        self.place = place
        self.is_sound = is_sound


class Walked(Struct, frozen=True):
    """Every schema that is an object, by its place; for those with a reference, where it leads."""

    schemas: dict[str, Schema]
    targets: dict[str, str]

    def inner(self, place: str) -> Iterator[str]:
        """Places of the schemas right in one, where its reference leads included."""
        one = self.schemas[place]
        inner = inner_schemas(one)
        yield from (f"{place}{step}" for step, entry in inner if isinstance(entry, dict))
        if place in self.targets and self.targets[place] in self.schemas:
            yield self.targets[place]

    def in_place(self, place: str) -> Iterator[str]:
        """Places of the schemas that hold for the very value a schema is for."""
        for key in ("allOf", "anyOf", "oneOf"):
            entries = self.schemas[place].get(key, ())
            steps = [f"{place}/{key}/{number}" for number in range(len(entries))]
            yield from (step for step in steps if step in self.schemas)
        if place in self.targets and self.targets[place] in self.schemas:
            yield self.targets[place]

    def reachable(self) -> list[str]:
        """Places that say something about an answer, the root first."""
        found = dict.fromkeys([""])
        waiting = [""]
        while waiting:
            for place in self.inner(waiting.pop()):
                if place not in found:
                    found[place] = None
                    waiting.append(place)
        return list(found)


def walk_schema(schema: Schema) -> Walked:
    """Raises SchemaError at what is no schema where one has to be, or leads nowhere."""
    names = anchors(schema)
    schemas: dict[str, Schema] = {}
    targets: dict[str, str] = {}
    waiting: list[tuple[str, Any]] = [("", schema)]
    while waiting:
        place, one = waiting.pop()
        if isinstance(one, bool) or place in schemas:
            continue
        if not isinstance(one, dict):
            raise SchemaError(place, f"a schema is an object or a boolean, not {shown(one)}")
        _check_shapes(one, place)
        schemas[place] = one
        waiting += [(place + step, inner) for step, inner in inner_schemas(one)]
        for key in _DEFINITIONS:
            table = one.get(key, {})
            waiting += [(f"{place}/{key}/{escape(name)}", entry) for name, entry in table.items()]
        if "$ref" in one:
            target, found = _referred(schema, one["$ref"], names, place)
            targets[place] = target
            waiting.append((target, found))
    return Walked(schemas, targets)


def shown(value: Any) -> str:
    """A value of a schema, as an error shows it."""
    text = msgspec.json.encode(value).decode(errors="replace")
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def types_of(schema: Schema) -> frozenset[str]:
    """Types a schema allows by `type`; all of them without it."""
    kinds = schema.get("type", TYPES)
    return frozenset(kinds if isinstance(kinds, list | tuple | frozenset) else (kinds,))


def _check_shapes(one: Schema, place: str) -> None:
    for key in (*TABLES, *_DEFINITIONS):
        if not isinstance(one.get(key, {}), dict):
            raise SchemaError(f"{place}/{key}", f"an object, not {shown(one[key])}")
    for key in (*LISTS, "enum"):
        if key in one and not (isinstance(one[key], list | tuple) and one[key]):
            text = f"a list with something in it, not {shown(one[key])}"
            raise SchemaError(f"{place}/{key}", text)
    required = one.get("required", [])
    if not isinstance(required, list | tuple) or not all(isinstance(n, str) for n in required):
        raise SchemaError(f"{place}/required", f"a list of names, not {shown(required)}")
    for key in ("pattern", "format", "$anchor"):
        if not isinstance(one.get(key, ""), str):
            raise SchemaError(f"{place}/{key}", f"text, not {shown(one[key])}")
    _check_types(one, place)
    _check_numbers(one, place)


def _check_numbers(one: Schema, place: str) -> None:
    for key in one.keys() & {*COUNTS, *BOUNDS, "multipleOf"}:
        if isinstance(one[key], bool) or not isinstance(one[key], int | float):
            raise SchemaError(f"{place}/{key}", f"a number, not {shown(one[key])}")
        if key in COUNTS and not _is_count(one[key]):
            raise SchemaError(f"{place}/{key}", f"a count, not {shown(one[key])}")


def _check_types(one: Schema, place: str) -> None:
    kinds = one.get("type", "object")
    if kinds in ([], ()):
        raise SchemaError(f"{place}/type", "an empty list leaves no type; name one")
    for kind in kinds if isinstance(kinds, list | tuple) else (kinds,):
        if not isinstance(kind, str) or kind not in TYPES:
            known = ", ".join(sorted(TYPES))
            raise SchemaError(f"{place}/type", f"there is no type {shown(kind)}; {known}")


def _is_count(value: float) -> bool:
    return value >= 0 and value == int(value)


def _referred(root: Schema, reference: Any, names: dict[str, str], place: str) -> tuple[str, Any]:
    where = f"{place}/$ref"
    if not isinstance(reference, str):
        raise SchemaError(where, f"text, not {shown(reference)}")
    if not reference.startswith("#"):
        text = f"{shown(reference)} leads out of the schema, and nothing is fetched; put it in"
        raise SchemaError(where, f"{text} $defs")
    pointer = pointer_of(reference, names)
    found = None if pointer is None else pointed_at(root, pointer)
    if found is None:
        raise SchemaError(where, f"{shown(reference)} leads nowhere")
    return found

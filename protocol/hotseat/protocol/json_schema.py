"""JSON Schema as far as it shapes answers: which keywords count, where schemas stand, references.

Read as of 2020-12, with `items` as a list and `definitions` besides, whatever `$schema` says. Must
not know what a grammar can hold or who asks: the daemon refuses by this, the worker compiles by it.
"""

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

Schema = dict[str, Any]

TYPES: Final = frozenset({"null", "boolean", "object", "array", "number", "integer", "string"})
TABLES: Final = ("properties", "patternProperties")
"""Keywords whose value names schemas."""
LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
SINGLE: Final = ("additionalProperties",)
COUNTS: Final = (
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
)
BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
APPLICATORS: Final = ("$ref", "allOf", "anyOf", "oneOf")
"""They hold for the value itself, beside what else its schema says."""
ENFORCED: Final = frozenset(
    {"type", "enum", "const", "required", "items", "additionalItems", "pattern", "format"}
    | {"multipleOf", *TABLES, *LISTS, *SINGLE, *COUNTS, *BOUNDS, *APPLICATORS}
)
REFUSED: Final = frozenset(
    {
        "not",
        "if",
        "then",
        "else",
        "contains",
        "minContains",
        "maxContains",
        "uniqueItems",
        "propertyNames",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "unevaluatedProperties",
        "unevaluatedItems",
        "$dynamicRef",
        "$recursiveRef",
    }
)
"""They forbid something, and no grammar can. Any other keyword says nothing about an answer."""
FORMATS: Final = frozenset(
    {
        "date-time",
        "time",
        "date",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "uuid",
        "uri",
    }
)
"""Formats that are enforced; any other name is an annotation."""


def inner_schemas(schema: Schema) -> Iterator[tuple[str, Any]]:
    """What stands in a schema as a schema, with the pointer to it from there.

    Constants, examples and defaults are no schemas, whatever they look like. A keyword of the wrong
    shape has none.
    """
    for key in TABLES:
        table = schema.get(key)
        if isinstance(table, dict):
            yield from ((f"/{key}/{escape(name)}", entry) for name, entry in table.items())
    for key in LISTS:
        yield from _listed(key, schema.get(key))
    for key in SINGLE:
        if key in schema:
            yield f"/{key}", schema[key]
    items = schema.get("items", True)
    yield from [("/items", items)] if isinstance(items, dict | bool) else _listed("items", items)
    if isinstance(items, list | tuple) and "additionalItems" in schema:
        yield "/additionalItems", schema["additionalItems"]


def _listed(key: str, entries: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(entries, list | tuple):
        yield from ((f"/{key}/{number}", entry) for number, entry in enumerate(entries))


def escape(name: str) -> str:
    """A name as a step of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def anchors(schema: Schema) -> dict[str, str]:
    """Pointers to the schemas that carry a name, by the name."""
    found: dict[str, str] = {}
    waiting: list[tuple[str, Any]] = [("", schema)]
    while waiting:
        place, one = waiting.pop()
        if not isinstance(one, dict):
            continue
        name = one.get("$anchor")
        if isinstance(name, str):
            found.setdefault(name, place)
        waiting += [(place + step, inner) for step, inner in inner_schemas(one)]
        for key in ("$defs", "definitions"):
            table = one.get(key)
            if isinstance(table, dict):
                waiting += [(f"{place}/{key}/{escape(n)}", entry) for n, entry in table.items()]
    return found


def pointed_at(schema: Schema, pointer: str) -> tuple[str, Any] | None:
    """What a JSON pointer (`/a/0`) leads to and its plain spelling; None if it leads nowhere."""
    found: Any = schema
    place = ""
    for part in unquote(pointer).split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list | tuple) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
            name = str(int(name))
        elif isinstance(found, dict) and name in found:
            found = found[name]
        else:
            return None
        place += f"/{escape(name)}"
    return place, found


def pointer_of(reference: str, names: dict[str, str]) -> str | None:
    """A reference within a schema as a pointer; None if it leads out of it or to no name."""
    if reference == "#" or reference.startswith("#/"):
        return reference[1:]
    return names.get(reference[1:]) if reference.startswith("#") else None


def arguments_schema(parameters: Schema) -> Schema:
    """The schema of a tool's arguments: of an object, without properties unless it says more."""
    return {"type": "object", **(parameters or {"properties": {}})}

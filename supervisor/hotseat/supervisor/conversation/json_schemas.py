"""Refuses JSON schemas that no library could follow, before a model is seated for them. Pure.

What a grammar can honour is the worker's to say; here stands what JSON Schema itself forbids, and
what is refused by rule: too large, or a reference that leads out of the schema.
"""

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import KIB

MAX_SCHEMA_BYTES: Final = 256 * KIB
"""Compiling takes time and memory with the size; larger ones are data, not forms."""
_TYPES: Final = frozenset({"null", "boolean", "object", "array", "number", "integer", "string"})
_TABLES: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE: Final = (
    "additionalProperties",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
)
_COUNTS: Final = (
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
)
_NUMBERS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


def check_schema(schema: dict[str, Any], field: str, *, of_object: bool = False) -> None:
    """Raises invalid_request naming `field` and the place in it.

    `of_object`: the root has to be the schema of an object, as arguments of a tool are.
    """
    size = len(msgspec.json.encode(schema))
    if size > MAX_SCHEMA_BYTES:
        raise _refusal(field, "", f"{size} bytes, at most {MAX_SCHEMA_BYTES} are taken; shorten it")
    kind = schema.get("type", "object")
    if of_object and kind not in ("object", ["object"]):
        raise _refusal(field, "type", f"arguments are an object, not {_shown(kind)}")
    has_names = any("$id" in one for _, one in _walk(schema, field, ""))
    for place, one in _walk(schema, field, ""):
        _check_keys(one, field, place)
        if "$ref" in one and not has_names:
            _check_reference(schema, one["$ref"], field, place)


def _walk(schema: dict[str, Any], field: str, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in a schema with its place; what stands where one has to and is none: refused.

    Examples, defaults and constants are no schemas, whatever they look like.
    """
    waiting: list[tuple[str, Any]] = [(place, schema)]
    while waiting:
        where, one = waiting.pop()
        if isinstance(one, bool):
            continue
        if not isinstance(one, dict):
            raise _refusal(field, where, f"a schema is an object or a boolean, not {_shown(one)}")
        yield where, one
        for key in _TABLES:
            table = one.get(key, {})
            if not isinstance(table, dict):
                raise _refusal(field, f"{where}/{key}", f"an object, not {_shown(table)}")
            waiting += [(f"{where}/{key}/{name}", entry) for name, entry in table.items()]
        for key in _LISTS:
            if key in one:
                waiting += _entries(one[key], field, f"{where}/{key}")
        items = one.get("items", True)
        if isinstance(items, list | tuple):
            waiting += [(f"{where}/items/{n}", entry) for n, entry in enumerate(items)]
        else:
            waiting.append((f"{where}/items", items))
        waiting += [(f"{where}/{key}", one[key]) for key in _SINGLE if key in one]


def _entries(value: Any, field: str, where: str) -> list[tuple[str, Any]]:
    if not isinstance(value, list | tuple) or not value:
        raise _refusal(field, where, f"a list with something in it, not {_shown(value)}")
    return [(f"{where}/{number}", entry) for number, entry in enumerate(value)]


def _check_keys(one: dict[str, Any], field: str, place: str) -> None:
    kinds = one.get("type", "object")
    for kind in kinds if isinstance(kinds, list | tuple) else (kinds,):
        if not isinstance(kind, str) or kind not in _TYPES:
            known = ", ".join(sorted(_TYPES))
            raise _refusal(field, f"{place}/type", f"there is no type {_shown(kind)}; {known}")
    if "enum" in one:
        _entries(one["enum"], field, f"{place}/enum")
    required = one.get("required", [])
    if not isinstance(required, list | tuple) or not all(isinstance(n, str) for n in required):
        raise _refusal(field, f"{place}/required", f"a list of names, not {_shown(required)}")
    for key in _COUNTS:
        value = one.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise _refusal(field, f"{place}/{key}", f"a count, not {_shown(value)}")
    for key in _NUMBERS:
        value = one.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _refusal(field, f"{place}/{key}", f"a number, not {_shown(value)}")


def _check_reference(root: dict[str, Any], reference: Any, field: str, place: str) -> None:
    where = f"{place}/$ref"
    if not isinstance(reference, str):
        raise _refusal(field, where, f"text, not {_shown(reference)}")
    if not reference.startswith("#"):
        text = f"{_shown(reference)} leads out of the schema, and nothing is fetched; put it in"
        raise _refusal(field, where, f"{text} $defs")
    if not reference.startswith("#/"):
        return
    found: Any = root
    for part in unquote(reference[2:]).split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list | tuple) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, dict) and name in found:
            found = found[name]
        else:
            raise _refusal(field, where, f"{_shown(reference)} leads nowhere")


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode(errors="replace")
    return text if len(text) <= 60 else f"{text[:60]}..."  # noqa: PLR2004


def _refusal(field: str, place: str, reason: str) -> HotseatError:
    at = f" at {place}" if place else ""
    return HotseatError(
        "invalid_request",
        f"{field}: no usable schema{at}: {reason}",
        field=field,
        place=place,
        reason=reason,
    )

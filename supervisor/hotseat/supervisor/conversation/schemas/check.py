"""Refuses JSON schemas that cannot be enforced whole, before a model is seated for them. Pure.

A schema that passes is followed to the letter: what a grammar cannot hold is refused here, and
what says nothing about an answer is left out by the worker. docs/schemas.md lists all of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.json_schema import (
    ENFORCED,
    FORMATS,
    Schema,
    arguments_schema,
    escape,
)
from hotseat.protocol.limits import KIB
from hotseat.supervisor.conversation.schemas.choices import Choices
from hotseat.supervisor.conversation.schemas.limits import check_limits
from hotseat.supervisor.conversation.schemas.loops import check_loops
from hotseat.supervisor.conversation.schemas.walk import SchemaError, shown, types_of, walk_schema

MAX_SCHEMA_BYTES: Final = 256 * KIB
"""Compiling takes time and memory with the size; larger ones are data, not forms."""
MAX_SCHEMAS: Final = 10_000
"""Schemas in one schema, each of its types counted."""
_APART: Final = frozenset({"qwen3_coder"})
"""Formats of calls that write each argument by itself, texts without quotes."""
_OF_APART: Final = frozenset({"type", "properties", "required", "additionalProperties"})
_OF_TEXT: Final = frozenset({"type", "enum", "const"})


def check_schema(schema: Schema, field: str) -> None:
    """Raises `HotseatError` naming `field` and the place in it."""
    with _refusing(field):
        _check(schema)


def check_arguments(parameters: Schema, field: str, tool_parser: str) -> None:
    """The same for the arguments of a tool, as calls in the format `tool_parser` hold them."""
    with _refusing(field):
        schema = arguments_schema(parameters)
        kind = schema["type"]
        if kind not in ("object", ["object"]):
            raise SchemaError("/type", f"arguments are an object, not {shown(kind)}")
        _check(schema)
        if tool_parser in _APART:
            _check_apart(schema)


@contextmanager
def _refusing(field: str) -> Iterator[None]:
    try:
        yield
    except SchemaError as error:
        at = f" at {error.place}" if error.place else ""
        does = "asks for what cannot be enforced" if error.is_sound else "cannot be used"
        raise HotseatError(
            "unsupported_feature" if error.is_sound else "invalid_request",
            f"{field}: the schema {does}{at}: {error}",
            field=field,
            place=error.place,
            reason=str(error),
        ) from error


def _check(schema: Schema) -> None:
    size = len(msgspec.json.encode(schema))
    if size > MAX_SCHEMA_BYTES:
        raise SchemaError("", f"{size} bytes, at most {MAX_SCHEMA_BYTES} are taken; shorten it")
    walked = walk_schema(schema)
    places = walked.reachable()
    weight = sum(len(types_of(walked.schemas[place])) for place in places)
    if weight > MAX_SCHEMAS:
        text = f"{len(places)} schemas with {weight} types in all, at most {MAX_SCHEMAS} are taken"
        raise SchemaError("", f"{text}; shorten it", is_sound=True)
    choices = Choices(walked)
    for place in places:
        check_limits(walked.schemas[place], place)
        choices.check(place)
    check_loops(walked)


def _check_apart(schema: Schema) -> None:
    """Only what stands with each argument itself can be held, and of a text only which it is."""
    for key in sorted(schema.keys() & ENFORCED - _OF_APART):
        raise _apart(f"/{key}", "arguments that are written one by one are held apart")
    for name in sorted(set(schema.get("required", ())) - schema.get("properties", {}).keys()):
        raise _apart("/required", f"{shown(name)} is not among the properties")
    for name, kind in schema.get("properties", {}).items():
        place = f"/properties/{escape(name)}"
        if not isinstance(kind, dict) or not isinstance(kind.get("type"), str):
            raise _apart(place, "an argument needs a single type here; give it one")
        beside = sorted(kind.keys() & ENFORCED - _OF_TEXT) if kind["type"] == "string" else []
        # An unknown format says nothing anyhow.
        if any(key != "format" or kind[key] in FORMATS for key in beside):
            raise _apart(f"{place}/{beside[0]}", "a text without quotes cannot be held to it")


def _apart(place: str, reason: str) -> SchemaError:
    text = f"{reason}, in the way this model writes calls; leave it out"
    return SchemaError(place, text, is_sound=True)

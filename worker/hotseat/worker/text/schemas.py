"""JSON schemas as the grammar library is given them: only what is enforced, in its words.

What says nothing about an answer is left out, `oneOf` is a choice (the daemon saw to it that its
alternatives exclude each other), references point to definitions that can stand in any schema,
and integers end. Must not know tools, tokens or what is refused.
"""

from collections.abc import Mapping
from typing import Any, Final

from hotseat.protocol.json_schema import (
    COUNTS,
    ENFORCED,
    FORMATS,
    REFUSED,
    Schema,
    anchors,
    pointed_at,
    pointer_of,
)
from hotseat.protocol.limits import MAX_SAFE_INTEGER

_SPACING: Final = r"( |\n[ \t]{0,40})?"
"""White space between JSON tokens: bounded, since small models like to go on with it for ever."""
_GUIDANCE: Final = {
    "whitespace_pattern": _SPACING,
    # Without \u a name has one spelling: else an escaped one would pass for a name of one's own.
    "json_allowed_escapes": 'nrbtf\\"',
}
_DEFINITIONS: Final = "#/$defs/"


class Plain:
    """One schema in the library's words. Names in `definitions` begin with `name`."""

    def __init__(self, schema: Schema, name: str = "d") -> None:
        self._root = schema
        self._name = name
        self._anchors = anchors(schema)
        self._names: dict[str, str] = {}
        self._waiting: list[tuple[str, Any]] = []
        self.definitions: dict[str, Any] = {}
        """What references in `body` lead to."""
        self.body: Schema = self._of_object(schema)
        while self._waiting:
            reference, target = self._waiting.pop()
            self.definitions[reference] = self._of(target)

    def whole(self) -> Schema:
        """The schema with all it needs."""
        return grounded(self.body, self.definitions)

    def _of(self, schema: Any) -> Any:
        return self._of_object(schema) if isinstance(schema, dict) else schema

    def _of_object(self, schema: Schema) -> Schema:
        plain: Schema = {}
        for key, value in schema.items():
            # In their order: the library joins constraints and properties as they come.
            if _says(key, value):
                self._take(key, value, schema, plain)
        return _ended(plain)

    def _take(self, key: str, value: Any, schema: Schema, plain: Schema) -> None:
        match key:
            case "properties" | "patternProperties":
                plain[key] = {name: self._of(entry) for name, entry in value.items()}
            case "allOf":
                plain[key] = [*map(self._of, value), *plain.get(key, ())]
            case "anyOf" | "prefixItems":
                plain[key] = [self._of(entry) for entry in value]
            case "oneOf":
                choice = [self._of(entry) for entry in value]
                if "anyOf" in schema:
                    plain["allOf"] = [*plain.get("allOf", ()), {"anyOf": choice}]
                else:
                    plain["anyOf"] = choice
            case "items" if isinstance(value, list | tuple):
                plain["prefixItems"] = [self._of(entry) for entry in value]
                plain["items"] = self._of(schema.get("additionalItems", True))
            case "items" | "additionalProperties":
                plain[key] = self._of(value)
            case "$ref":
                plain[key] = self._refer(value)
            case _:
                plain[key] = int(value) if key in COUNTS else value

    def _refer(self, reference: str) -> str:
        pointer = pointer_of(reference, self._anchors)
        found = None if pointer is None else pointed_at(self._root, pointer)
        if found is None:
            return reference  # the daemon refuses such; the library will, too
        place, target = found
        if place not in self._names:
            name = self._names[place] = f"{self._name}{len(self._names)}"
            self._waiting.append((name, target))
        return _DEFINITIONS + self._names[place]


def _says(key: str, value: Any) -> bool:
    """True if a keyword says something about an answer.

    One that cannot be enforced is left for the library to refuse, should the daemon ever not.
    """
    if key == "format":
        return value in FORMATS
    if key == "uniqueItems":
        return value is not False
    return key in REFUSED or (key in ENFORCED and key != "additionalItems")


def grounded(body: Schema, definitions: Mapping[str, Any]) -> Schema:
    """A schema for the library: how JSON is written, and what references lead to."""
    return {"x-guidance": _GUIDANCE, **body, "$defs": definitions}


def _ended(schema: Schema) -> Schema:
    """Integers have at most 16 digits; digits are what small models go on with."""
    kinds = schema.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    if "integer" not in kinds or "number" in kinds or schema.keys() & {"enum", "const"}:
        return schema
    bounds = {}
    if "minimum" not in schema and "exclusiveMinimum" not in schema:
        bounds["minimum"] = -MAX_SAFE_INTEGER
    if "maximum" not in schema and "exclusiveMaximum" not in schema:
        bounds["maximum"] = MAX_SAFE_INTEGER
    return schema | bounds

"""Values of a call as the JSON schema of the tool wants them: changed only where nothing is lost.

Looks at types, not at bounds: whether a value is a good one is for the tool to say. Must not know
how a model writes a call.
"""

import json
import math
from collections.abc import Iterable
from typing import Any, Final, NoReturn

Types = frozenset[str]
"""Names of JSON types."""

_ALL: Final[Types] = frozenset(
    {"null", "boolean", "integer", "number", "string", "array", "object"}
)
_WORDS: Final = {"True": True, "False": False, "None": None}
"""Python's words for what JSON has words for: models that write elements use both."""
_DEEPEST: Final = 8
"""Schemas within schemas of one value are not followed further: some refer to themselves."""


class MismatchError(ValueError):
    """A value has a type that the schema does not allow; names the argument, not the value."""


def fit_object(arguments: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Arguments with the types that `schema` allows. Raises MismatchError."""
    return dict(_fit_properties(arguments, schema, schema, "", 0))


def value_of_text(text: str, schema: Any, root: dict[str, Any], name: str) -> Any:
    """The value of an argument that a model wrote as bare text. Raises MismatchError.

    Text is a string where the schema allows strings, unless it is the JSON of a value of another
    type that the schema allows as well. Without a schema, JSON is what it says.
    """
    types = allowed_types(schema, root)
    try:
        return _read_bare(text.strip(), types - {"string"}, knows_python="string" not in types)
    except (ValueError, RecursionError):
        if "string" in types:
            return text
        wanted = " or ".join(sorted(types))
        raise MismatchError(f"argument {_shown(name)} is not {wanted}") from None


def allowed_types(schema: Any, root: dict[str, Any], depth: int = 0) -> Types:
    """Types that a value may have; all of them where the schema does not say."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return _ALL  # what cannot be told allows everything
    if "$ref" in schema:
        return allowed_types(_target(schema["$ref"], root), root, depth + 1)
    types = _stated(schema)
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list):
            found = [allowed_types(branch, root, depth + 1) for branch in schema[key]]
            types &= frozenset().union(*found)
    for branch in schema.get("allOf", ()) if isinstance(schema.get("allOf"), list) else ():
        types &= allowed_types(branch, root, depth + 1)
    if schema.get("nullable") is True:
        types |= {"null"}
    return types or _ALL


def _stated(schema: dict[str, Any]) -> Types:
    stated = schema.get("type")
    names = [stated] if isinstance(stated, str) else stated if isinstance(stated, list) else []
    types = frozenset(name for name in names if isinstance(name, str)) & _ALL
    if types:
        return types | {"integer"} if "number" in types else types
    if "enum" in schema and isinstance(schema["enum"], list):
        return frozenset(kind_of(value) for value in schema["enum"]) or _ALL
    return frozenset({kind_of(schema["const"])}) if "const" in schema else _ALL


def schema_of_argument(schema: Any, root: dict[str, Any], name: str, depth: int = 0) -> Any:
    """The schema of one property of an object; None where nothing is said about it."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return None
    properties = schema.get("properties")
    if isinstance(properties, dict) and name in properties:
        return properties[name]
    for branch in _branches(schema, root):
        found = schema_of_argument(branch, root, name, depth + 1)
        if found is not None:
            return found
    further = schema.get("additionalProperties")
    return further if isinstance(further, dict) else None


def names_of_arguments(schema: Any, root: dict[str, Any], depth: int = 0) -> frozenset[str]:
    """Names of the properties of an object that a schema tells of."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return frozenset()
    properties = schema.get("properties")
    names = frozenset(properties) if isinstance(properties, dict) else frozenset()
    branches = _branches(schema, root)
    return names.union(*(names_of_arguments(one, root, depth + 1) for one in branches))


def _branches(schema: dict[str, Any], root: dict[str, Any]) -> list[Any]:
    """Schemas that speak of the same value."""
    found = [_target(schema["$ref"], root)] if "$ref" in schema else []
    for key in ("allOf", "anyOf", "oneOf"):
        found += schema[key] if isinstance(schema.get(key), list) else []
    return found


def kind_of(value: Any) -> str:
    """Name of the JSON type of a value."""
    if value is None:
        return "null"
    kinds = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"))
    for python_type, name in kinds:
        if isinstance(value, python_type):
            return name
    return "array" if isinstance(value, list | tuple) else "object"


def _fit_properties(
    value: dict[str, Any], schema: Any, root: dict[str, Any], path: str, depth: int
) -> Iterable[tuple[str, Any]]:
    stated = schema.get("required") if isinstance(schema, dict) else None
    required = stated if isinstance(stated, list) else []
    for name, item in value.items():
        kind = schema_of_argument(schema, root, name)
        if kind is None:
            yield name, item
            continue
        if item is None and name not in required and "null" not in allowed_types(kind, root):
            continue  # an argument that may be left out, and was, in so many letters
        yield name, _fit(item, kind, root, f"{path}{name}", depth)


def _fit(value: Any, schema: Any, root: dict[str, Any], path: str, depth: int) -> Any:
    types = allowed_types(schema, root)
    value = _converted(value, types, path)
    if depth > _DEEPEST:
        return value
    schema = _target(schema["$ref"], root) if _is_reference(schema) else schema
    if isinstance(value, dict):
        return dict(_fit_properties(value, schema, root, f"{path}.", depth + 1))
    if isinstance(value, list) and isinstance(schema, dict) and "items" in schema:
        return [_fit(item, schema["items"], root, f"{path}[]", depth + 1) for item in value]
    return value


def _converted(value: Any, types: Types, path: str) -> Any:
    kind = kind_of(value)
    if kind in types:
        return value
    if kind == "number" and "integer" in types and value.is_integer():
        return int(value)
    if kind == "string":
        try:
            return _read_bare(value.strip(), types, knows_python=True)
        except (ValueError, RecursionError):
            pass
    if "string" in types and kind in ("integer", "boolean"):
        return json.dumps(value)
    if "string" in types and isinstance(value, WrittenFloat):
        return value.digits
    wanted = " or ".join(sorted(types))
    raise MismatchError(f"argument {_shown(path)} is {kind}, not {wanted}")


def _read_bare(text: str, types: Types, *, knows_python: bool) -> Any:
    """The JSON value that `text` is, of one of these types. Raises ValueError."""
    value: Any = _WORDS[text] if knows_python and text in _WORDS else DECODER.decode(text)
    kind = kind_of(value)
    if kind == "number" and "number" not in types and "integer" in types and value.is_integer():
        return int(value)
    if kind not in types:
        raise ValueError(kind)
    return value


def _refuse_constant(_word: str) -> NoReturn:
    raise MismatchError("NaN and Infinity are no numbers of JSON")


class WrittenFloat(float):
    """A number that knows how it was written: 3.10 is not the text 3.1."""

    digits: str


def _finite(digits: str) -> float:
    number = WrittenFloat(digits)
    if math.isinf(number):
        raise MismatchError("a number is larger than readers of JSON can hold")
    number.digits = digits
    return number


def _whole_number(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:
        raise MismatchError("a number has more digits than can be read") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise MismatchError("an object has two values of one name")
    return found


DECODER: Final = json.JSONDecoder(
    strict=False,
    parse_constant=_refuse_constant,
    parse_float=_finite,
    parse_int=_whole_number,
    object_pairs_hook=_without_repeats,
)
"""Reads JSON as models write it: line ends inside a string are taken for what they are; what JSON
has no word for, and objects with two values of one name, raise MismatchError."""


def _is_reference(schema: Any) -> bool:
    return isinstance(schema, dict) and "$ref" in schema


def _target(reference: Any, root: dict[str, Any]) -> Any:
    """What a reference into the same schema points to; an empty schema if to nothing."""
    found: Any = root
    if not isinstance(reference, str) or not reference.startswith("#"):
        return {}
    for step in reference.removeprefix("#").strip("/").split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if name:
            found = found.get(name, {}) if isinstance(found, dict) else {}
    return found


def _shown(path: str) -> str:
    """A name for an error: what no frame can hold is escaped."""
    return repr(path[:80].encode(errors="backslashreplace").decode())

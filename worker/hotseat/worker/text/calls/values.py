"""Values of a call as the JSON schema of the tool wants them: changed only where nothing is lost.

Looks at types, not at bounds: whether a value is a good one is for the tool to say. Must not know
how a model writes a call.
"""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn

from hotseat.protocol.json_schema import anchors, pointed_at, pointer_of

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


def allowed_types(schema: Any, root: dict[str, Any]) -> Types:
    """Types that a value may have; all of them where the schema does not say."""
    return _types_of(schema, root, {}, 0)


def _types_of(
    schema: Any, root: dict[str, Any], known: dict[tuple[int, int], Types], depth: int
) -> Types:
    """`known`: what was found before, by schema and depth. Alternatives may share their parts."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return _ALL  # what cannot be told allows everything
    place = (id(schema), depth)
    if place not in known:
        known[place] = _found_types(schema, root, known, depth + 1)
    return known[place]


def _found_types(
    schema: dict[str, Any], root: dict[str, Any], known: dict[tuple[int, int], Types], depth: int
) -> Types:
    if "$ref" in schema:
        return _types_of(_target(schema["$ref"], root), root, known, depth)
    types = _stated(schema)
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list):
            found = [_types_of(branch, root, known, depth) for branch in schema[key]]
            types &= frozenset().union(*found)
    for branch in schema.get("allOf", ()) if isinstance(schema.get("allOf"), list) else ():
        types &= _types_of(branch, root, known, depth)
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


def schema_of_argument(schema: Any, root: dict[str, Any], name: str) -> Any:
    """The schema of one property of an object; None where nothing is said about it."""
    alike = _of_one_value(schema, root)
    tables = (one.get("properties") for one in alike)
    found = [table[name] for table in tables if isinstance(table, dict) and name in table]
    if not found:
        further = (one.get("additionalProperties") for one in alike)
        found = [one for one in further if isinstance(one, dict)]
    return _any_of(found)


def names_of_arguments(schema: Any, root: dict[str, Any]) -> frozenset[str]:
    """Names of the properties of an object that a schema tells of."""
    tables = (one.get("properties") for one in _of_one_value(schema, root))
    return frozenset().union(*(table for table in tables if isinstance(table, dict)))


def required_arguments(schema: Any, root: dict[str, Any]) -> frozenset[str]:
    """Names that a schema requires, be it in one of its alternatives only."""
    lists = (one.get("required") for one in _of_one_value(schema, root))
    found = (name for names in lists if isinstance(names, list) for name in names)
    return frozenset(name for name in found if isinstance(name, str))


def _any_of(found: Sequence[Any]) -> Any:
    """Alternatives of one value: which of them a model chose is not known here."""
    return {"anyOf": list(found)} if len(found) > 1 else next(iter(found), None)


def _of_one_value(schema: Any, root: dict[str, Any]) -> list[dict[str, Any]]:
    """A schema and those that it has speak of the same value, each of them once."""
    found: dict[int, dict[str, Any]] = {}
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, dict) or id(one) in found:
            continue
        found[id(one)] = one
        branches = [_target(one["$ref"], root)] if "$ref" in one else []
        for key in ("allOf", "anyOf", "oneOf"):
            branches += one[key] if isinstance(one.get(key), list) else []
        waiting += reversed(branches)
    return list(found.values())


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
    for name, item in value.items():
        kind = schema_of_argument(schema, root, name)
        if kind is None:
            yield name, item
            continue
        if (
            item is None
            and "null" not in allowed_types(kind, root)
            and name not in required_arguments(schema, root)
        ):
            continue  # an argument that may be left out, and was, in so many letters
        yield name, _fit(item, kind, root, f"{path}{name}", depth)


def _fit(value: Any, schema: Any, root: dict[str, Any], path: str, depth: int) -> Any:
    types = allowed_types(schema, root)
    value = _converted(value, types, path)
    if depth > _DEEPEST:
        return value
    if isinstance(value, dict):
        return dict(_fit_properties(value, schema, root, f"{path}.", depth + 1))
    if isinstance(value, list):
        items = _any_of([one["items"] for one in _of_one_value(schema, root) if "items" in one])
        return [_fit(item, items, root, f"{path}[]", depth + 1) for item in value]
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


def _target(reference: Any, root: dict[str, Any]) -> Any:
    """What a reference into the same schema points to; an empty schema if to nothing."""
    if not isinstance(reference, str):
        return {}
    is_pointer = reference == "#" or reference.startswith("#/")
    pointer = pointer_of(reference, {} if is_pointer else anchors(root))
    found = None if pointer is None else pointed_at(root, pointer)
    return {} if found is None else found[1]


def _shown(path: str) -> str:
    """A name for an error: what no frame can hold is escaped."""
    return repr(path[:80].encode(errors="backslashreplace").decode())

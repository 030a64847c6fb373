"""What a grammar cannot hold of a JSON schema, looked at one schema at a time. Pure.

Whatever passes is enforced to the letter or is an annotation. Must not know references.
"""

from collections.abc import Callable
from itertools import combinations
from typing import Any, Final

from hotseat.protocol.json_schema import BOUNDS, REFUSED, Schema
from hotseat.protocol.limits import MAX_SAFE_INTEGER
from hotseat.supervisor.conversation.schemas.choices import kind_of
from hotseat.supervisor.conversation.schemas.overlap import Automaton, can_overlap
from hotseat.supervisor.conversation.schemas.patterns import PatternError, read_pattern
from hotseat.supervisor.conversation.schemas.walk import SchemaError, shown, types_of

MAX_OPTIONAL: Final = 200
"""Properties of one object that may be left out; a grammar follows all of them at once."""
MAX_COUNT: Final = 1_000_000
MAX_COMPARED: Final = 2_000
"""Names times patterns, and pairs of patterns, of one object."""
_SMALLEST: Final = 1e-15
_LARGEST_STEP: Final = 2**32 - 1
_CONTROLS: Final = frozenset({*map(chr, range(32)), "\x7f"} - {*"\b\f\n\r\t"})
_PAIRS: Final = (
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
    ("minimum", "maximum"),
    ("minimum", "exclusiveMaximum"),
    ("exclusiveMinimum", "maximum"),
    ("exclusiveMinimum", "exclusiveMaximum"),
)


def check_limits(one: Schema, place: str) -> None:
    """Raises SchemaError at what cannot be enforced, or leaves no value."""
    for check in _CHECKS:
        check(one, place)


def _check_keywords(one: Schema, place: str) -> None:
    for key in one.keys() & REFUSED:
        if not (key == "uniqueItems" and one[key] is False):
            raise _limit(f"{place}/{key}", "it cannot be enforced; leave it out")
    if "prefixItems" in one and isinstance(one.get("items"), list | tuple):
        raise SchemaError(f"{place}/items", "a list of items beside prefixItems; give one of them")


def _check_constants(one: Schema, place: str) -> None:
    for key in ("const", "enum"):
        for value in [one["const"]] if key == "const" and key in one else one.get(key, ()):
            _check_constant(value, f"{place}/{key}")
    given = one.get("enum", [one["const"]] if "const" in one else None)
    kinds = {"number" if kind == "integer" else kind for kind in types_of(one)}
    if given is not None and not any(kind_of(value) in kinds for value in given):
        raise SchemaError(place, "none of its constants is of its type; nothing can be answered")


def _check_constant(value: Any, place: str) -> None:
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, str) and _CONTROLS & set(found):
            raise _limit(place, "a constant with a control character cannot be written")
        if isinstance(found, float):
            _check_number(found, place)
        if isinstance(found, dict):
            waiting += [*found, *found.values()]
        elif isinstance(found, list | tuple):
            waiting += found


def _check_number(value: float, place: str) -> None:
    if value and not _SMALLEST <= abs(value) <= MAX_SAFE_INTEGER:
        raise _limit(place, f"{shown(value)} is outside what is taken, 1e-15 to 2^53-1")


def _check_numbers(one: Schema, place: str) -> None:
    for key in BOUNDS:
        _check_number(one.get(key, 0), f"{place}/{key}")
    for low, high in _PAIRS:
        is_open = low.startswith("exclusive") or high.startswith("exclusive")
        if low not in one or high not in one:
            continue
        if one[low] > one[high] or (is_open and one[low] == one[high]):
            raise SchemaError(f"{place}/{low}", f"nothing is left up to {high} {shown(one[high])}")
    step = one.get("multipleOf", 1)
    if step <= 0:
        raise SchemaError(f"{place}/multipleOf", f"a number above 0, not {shown(step)}")
    # As the grammar does it: digits behind the point are counted by moving it.
    while step != int(step):
        step *= 10
        if step > _LARGEST_STEP:
            break
    if step > _LARGEST_STEP:
        text = f"{shown(one['multipleOf'])} has too many digits; use fewer, 0.01 or 0.25 for one"
        raise _limit(f"{place}/multipleOf", text)


def _check_counts(one: Schema, place: str) -> None:
    for key in ("minLength", "maxLength", "minItems", "maxItems"):
        if one.get(key, 0) > MAX_COUNT:
            raise _limit(f"{place}/{key}", f"at most {MAX_COUNT} is taken; leave it out")
    first = one.get("items") if isinstance(one.get("items"), list | tuple) else None
    rest = one.get("additionalItems" if first is not None else "items")
    held = len(first if first is not None else one.get("prefixItems", ()))
    if rest is False and one.get("minItems", 0) > held:
        raise SchemaError(f"{place}/minItems", f"there are no items behind the first {held}")


def _check_members(one: Schema, place: str) -> None:
    names, required = one.get("properties", {}), set(one.get("required", ()))
    optional = len(names.keys() - required)
    if optional > MAX_OPTIONAL:
        text = f"{optional} properties may be left out, at most {MAX_OPTIONAL} are taken"
        raise _limit(f"{place}/properties", f"{text}; require the others")
    free = one.get("additionalProperties", True)
    unnamed = sorted(required - names.keys())
    if free is False and unnamed and not one.get("patternProperties"):
        text = f"{shown(unnamed[0])} is required and no property of this name is allowed"
        raise SchemaError(f"{place}/required", text)
    impossible = [name for name in required & names.keys() if names[name] is False]
    if impossible:
        text = f"{shown(impossible[0])} is required and its schema is false"
        raise SchemaError(f"{place}/required", text)
    _check_sizes(one, place, optional, len(required))


def _check_sizes(one: Schema, place: str, optional: int, required: int) -> None:
    """How many properties there are is known where none may be left out, or one is asked for."""
    least, most = one.get("minProperties", 0), one.get("maxProperties")
    if least == 0 and most is None:
        return
    key = "minProperties" if least else "maxProperties"
    is_closed = one.get("additionalProperties", True) is False and "patternProperties" not in one
    is_any = is_closed and least <= 1 and most in (None, 1) and not required
    if optional and not is_any:
        text = "it cannot be counted while properties may be left out; require them"
        raise _limit(f"{place}/{key}", text)
    if most is not None and most < required:
        text = f"{required} properties are required"
        raise SchemaError(f"{place}/maxProperties", text)
    if not optional and least > required + (0 if is_closed else 1):
        # Names of one's own may come twice, and then count once.
        text = f"at most {required + 1} can be ensured; name the properties and require them"
        raise _limit(f"{place}/minProperties", text)


def _check_patterns(one: Schema, place: str) -> None:
    if "pattern" in one:
        _read(one["pattern"], f"{place}/pattern")
    table = one.get("patternProperties", {})
    names = sorted(one.get("properties", {}))
    where = f"{place}/patternProperties"
    if len(table) * (len(table) + len(names)) > MAX_COMPARED:
        raise _limit(where, f"{len(table)} patterns and {len(names)} names are too many to compare")
    found = {text: Automaton(_read(text, f"{where}/{text}")) for text in table}
    for text, automaton in found.items():
        for name in names:
            if automaton.matches(name):
                raise _limit(
                    f"{where}/{text}",
                    f"the pattern holds for {shown(name)} of properties too, and both cannot be "
                    "enforced at once; take the name out of properties or narrow the pattern",
                )
    for (text, left), (other, right) in combinations(found.items(), 2):
        if can_overlap(left, right):
            raise _limit(
                f"{where}/{text}",
                f"a name may match the pattern {shown(other)} too, and both cannot be enforced at "
                "once; narrow them",
            )


def _read(text: str, place: str) -> Any:
    try:
        return read_pattern(text)
    except PatternError as error:
        raise _limit(place, f"the pattern cannot be enforced: {error}") from error


def _limit(place: str, reason: str) -> SchemaError:
    return SchemaError(place, reason, is_sound=True)


_CHECKS: Final[tuple[Callable[[Schema, str], None], ...]] = (
    _check_keywords,
    _check_constants,
    _check_numbers,
    _check_counts,
    _check_members,
    _check_patterns,
)

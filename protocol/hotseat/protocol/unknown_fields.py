"""Fields of a message that its type does not have: the daemon names them, clients refuse. Pure."""

import difflib
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from msgspec import Struct
from msgspec import inspect as mi

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Part

_MOST: Final = 32
"""Named at once; whoever sends more knows by then."""
_NAME_CHARS: Final = 64
_NEAR: Final = 3


class UnknownField(Struct, frozen=True):
    """`path` as errors name it (`messages[2].role`); `known` are the names that are there."""

    path: str
    known: tuple[str, ...]

    @property
    def near(self) -> list[str]:
        """Known names that look like it."""
        name = self.path.rpartition(".")[2]
        return difflib.get_close_matches(name, self.known, n=_NEAR)


def unknown_fields(plain: Any, kind: type[Struct]) -> tuple[UnknownField, ...]:
    """What a plain object holds beside the fields of `kind`, structs inside it included."""
    found = _walk(plain, _shape(kind), "")
    return tuple(field for _, field in zip(range(_MOST), found, strict=False))


def refuse_unknown(plain: Any, kind: type[Struct], what: str) -> None:
    """Raises invalid_request for the first field that `kind` does not have, with near matches."""
    for field in unknown_fields(plain, kind):
        near = field.near
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(field.known)}"
        raise HotseatError(
            "invalid_request",
            f"{what}: there is no {field.path!r}; {hint}",
            field=field.path,
            near=near,
        )


def _walk(value: Any, shape: mi.Type, path: str) -> Iterator[UnknownField]:
    match shape:
        case mi.StructType() if isinstance(value, dict) and not _is_foreign(value, shape):
            fields = _fields(shape.cls)
            known = tuple(fields)
            for name, entry in value.items():
                where = f"{path}.{name[:_NAME_CHARS]}" if path else name[:_NAME_CHARS]
                if name not in fields:
                    yield UnknownField(where, known)
                elif isinstance(entry, dict | list | tuple):
                    yield from _walk(entry, fields[name], where)
        case mi.VarTupleType(item_type=item) if isinstance(value, list | tuple):
            if not isinstance(item, mi.IntType):
                for number, entry in enumerate(value):
                    yield from _walk(entry, item, f"{path}[{number}]")
        case mi.UnionType(types=types):
            for one in types:
                yield from _walk(value, one, path)
        case _:
            pass


def _is_foreign(value: dict[str, Any], shape: mi.StructType) -> bool:
    """True for parts that no model takes: they have fields of their own, and an error too."""
    return shape.cls is Part and value.get("type") != "text"


@cache
def _shape(kind: type[Struct]) -> mi.StructType:
    shape = mi.type_info(kind)
    assert isinstance(shape, mi.StructType)  # noqa: S101 - of a struct
    return shape


@cache
def _fields(kind: type[Struct]) -> dict[str, mi.Type]:
    return {field.encode_name: field.type for field in _shape(kind).fields}

"""Every setting in words, from the types: for `hotseat config show` and docs/configuration.md.

Knows the types, no file. What a field means is the string below it in the source.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from msgspec import Struct

from hotseat.protocol.limits import GIB, KIB, MIB
from hotseat.supervisor.settings.changes import NEEDS_RESTART, NEEDS_SWAP
from hotseat.supervisor.settings.values import PATHS, AliasSettings, ModelSettings, Settings

_UNITS: Final = ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"))


class SettingLine(Struct, frozen=True, kw_only=True):
    """One setting. `default` is TOML text, empty where nothing stands for "unset"."""

    section: str
    name: str
    kind: str
    default: str
    meaning: str
    taken: str
    """When a change is taken."""


def entries() -> Iterator[SettingLine]:
    """All settings in the order of the file."""
    for section, kind in _sections():
        hints = get_type_hints(kind)
        for name in kind.__struct_fields__:
            if not _is_table(hints[name]):
                yield SettingLine(
                    section=section,
                    name=name,
                    kind=_kind_in_words(name, hints[name]),
                    default=_default(kind, name),
                    meaning=meanings(kind).get(name, ""),
                    taken=_taken(section, name),
                )


def section_meaning(section: str) -> str:
    """The first paragraph about a section, without its own name."""
    kind = dict(_sections())[section]
    return _plain((inspect.getdoc(kind) or "").partition(": ")[2])


@cache
def meanings(kind: type[Struct]) -> Mapping[str, str]:
    """The string below each field in the source of its class."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)  # noqa: S101 - it is the source of a class
    found: dict[str, str] = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
            found[field.target.id] = _plain(str(below.value.value))  # type: ignore[attr-defined]
    return found


def toml_value(name: str, value: Any) -> str:
    """A value as it is written in the file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and name.endswith("_bytes"):
        for unit, word in _UNITS:
            if value and value % unit == 0:
                return f'"{value // unit} {word}"'
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sections() -> list[tuple[str, type[Struct]]]:
    found: list[tuple[str, type[Struct]]] = []
    for name, hint in get_type_hints(Settings).items():
        if name == "aliases":
            found.append(("aliases.NAME", AliasSettings))
        elif name == "models":
            found.append(("models.NAME", ModelSettings))
            sampling = get_type_hints(ModelSettings)["sampling"]
            found.append(("models.NAME.sampling", sampling))
        else:
            found.append((name, hint))
    return found


def _is_table(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Struct)


def _kind_in_words(name: str, hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(hint))
    if name in PATHS:
        return "path"
    for ending, words in (("_bytes", "size"), ("_s", "seconds")):
        if name.endswith(ending):
            return words
    plain = {kind for kind in get_args(hint) if kind is not type(None)} or {hint}
    if get_origin(hint) is Mapping:
        return "table of plain values"
    names = {bool: "true or false", int: "whole number", float: "number", str: "name"}
    return next((words for kind, words in names.items() if kind in plain), "value")


def _default(kind: type[Struct], name: str) -> str:
    fields = kind.__struct_fields__
    defaults = dict(zip(reversed(fields), reversed(kind.__struct_defaults__), strict=False))
    value = defaults.get(name)
    if (
        value is None
        or isinstance(value, Mapping)
        or not isinstance(value, bool | int | float | str)
    ):
        return ""
    return toml_value(name, value)


def _taken(section: str, name: str) -> str:
    if f"{section}.{name}" in NEEDS_RESTART:
        return "restart"
    if section == "models.NAME" and name in NEEDS_SWAP:
        return "swap"
    return "reload"


def _plain(text: str) -> str:
    return " ".join(text.split())
